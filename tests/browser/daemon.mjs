// The real daemon for a test: its own data directory, an address of the kernel's choice.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const NAMED = process.env.RESIDUUM_BUILD ?? 'build/release';
const BUILD = isAbsolute(NAMED) ? NAMED : join(ROOT, NAMED);
// The page comes from the release build when this build has none.
export const WEB = [join(BUILD, 'web'), join(ROOT, 'build/release/web')].find((path) => existsSync(path));
const LOG_BYTES = 20000;

export class Daemon {
  static async create() {
    const daemon = new Daemon();
    daemon.data = await mkdtemp(join(tmpdir(), 'residuum-browser-'));
    daemon.log = '';
    await daemon.start('127.0.0.1:0');
    return daemon;
  }

  // Starts it and waits for the first line, its address.
  async start(listen) {
    this.child = spawn(join(BUILD, 'residuumd'), ['--data', this.data, '--listen', listen, '--web', WEB], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stderr.on('data', (chunk) => { this.log = (this.log + chunk).slice(-LOG_BYTES); });
    this.ended = once(this.child, 'exit');
    const lines = createInterface(this.child.stdout);
    const first = await Promise.race([once(lines, 'line').then(([line]) => line), this.ended.then(() => null)]);
    if (first === null) throw new Error(`residuumd ended before it listened:\n${this.log}`);
    this.address = first;
  }

  async request(method, path, body) {
    const response = await fetch(this.address + path, { method, headers: body ? { 'Content-Type': 'application/json' } : {}, body: body && JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.status === 204 ? null : response.json();
  }
  submit(spec) {
    return this.request('POST', '/v1/jobs', spec);
  }

  // As a power cut would.
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
  restart() {
    return this.start(new URL(this.address).host);
  }

  async close() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGTERM');
    await this.ended;
    await rm(this.data, { recursive: true, force: true });
  }
}
