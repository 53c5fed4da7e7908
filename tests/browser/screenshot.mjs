// Takes the picture of a job's page for README.md:
//   node tests/browser/screenshot.mjs ADDRESS JOB OUT.png [light | dark] [WIDTH]
import { launch, live, openPage } from './browser.mjs';

const [address, job, out, colorScheme = 'light', width = '1280'] = process.argv.slice(2);
if (!out) {
  console.error('usage: screenshot.mjs ADDRESS JOB OUT.png [light | dark] [WIDTH]');
  process.exit(2);
}
const browser = await launch();
const page = await openPage(browser, { colorScheme, viewport: { width: Number(width), height: 900 } });
await page.goto(`${address}/#/jobs/${job}`);
await live(page);
await page.waitForSelector('.chart[data-kind="accuracy"] canvas');
await page.waitForSelector('.softmax');
// Down to the end of the confusion matrix: what one sees first.
const end = await page.locator('.confusion-block').evaluate((node) => Math.ceil(node.getBoundingClientRect().bottom + scrollY));
await page.screenshot({ path: out, fullPage: true, clip: { x: 0, y: 0, width: Number(width), height: end + 24 } });
await browser.close();
if (page.trouble.length) {
  console.error(page.trouble.join('\n'));
  process.exit(1);
}
