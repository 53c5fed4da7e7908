// Chromium as the system has it, driven by Playwright; pages that remember what went wrong in them.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { chromium } = require('playwright-core');
export const AXE = require('axe-core').source;

// Everything that would make a browser talk to anything but the page is off.
const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export function launch() {
  return chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args: ARGS });
}

// A page in a profile of its own. page.trouble collects console errors, exceptions and violations of the content policy.
export async function openPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB', reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  page.trouble = [];
  page.setDefaultTimeout(20000);
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && page.trouble.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => page.trouble.push(`exception: ${error.message}`));
  await page.exposeFunction('reportViolation', (text) => page.trouble.push(`policy: ${text}`));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  return page;
}

// Waits until the stream is open, so that what happens next is seen live.
export const live = (page) => page.waitForSelector('.lamp[data-status="open"]');

// Serious findings of axe, as one line each.
export async function accessibility(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id} at ${node.target.join(' ')}: ${node.any.concat(node.all, node.none).map((check) => check.message).join('; ')}`));
}

export const chartPoints = (page, kind, series) => page.locator(`.chart[data-kind="${kind}"]`).getAttribute(`data-${series}-points`).then(Number);

// Number of pixels of a chart's canvas that have about the colour of a style variable.
export function paintedPixels(page, kind, variable) {
  return page.evaluate(([name, color]) => {
    const probe = document.createElement('span');
    probe.style.color = `var(--${color})`;
    document.body.append(probe);
    const wanted = getComputedStyle(probe).color.match(/\d+/g).map(Number);
    probe.remove();
    const canvas = document.querySelector(`.chart[data-kind="${name}"] canvas`);
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && wanted.every((value, c) => Math.abs(value - data[i + c]) < 12)) found += 1;
    return found;
  }, [kind, variable]);
}

// Waits until so many elements match; what is drawn later than the text before it is no failure, a wrong number is one.
export async function counted(page, css, n) {
  const matching = page.locator(css);
  const until = Date.now() + 10000;
  while (await matching.count() !== n) {
    if (Date.now() > until) throw new Error(`${await matching.count()} elements match ${css}, not ${n}`);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
  }
}
