import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const BIN = fileURLToPath(new URL('../../bin/sdxi.js', import.meta.url));

/** `sdxi serve` as a process of its own, listening. */
export class ServeProcess {
  readonly child: ChildProcess;
  readonly socket: string;
  private readonly folder: string;

  private constructor(child: ChildProcess, socket: string, folder: string) {
    this.child = child;
    this.socket = socket;
    this.folder = folder;
  }

  static async start(...args: string[]): Promise<ServeProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'sdxi-process-'));
    const socket = join(folder, 's');
    const child = spawn(process.execPath, [BIN, 'serve', '--socket', socket, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    child.stderr?.on('data', (bytes) => {
      text += bytes;
    });
    for await (const bytes of child.stdout as AsyncIterable<Buffer>) {
      text += bytes;
      if (text.includes('sdxi vm')) return new ServeProcess(child, socket, folder);
    }
    throw new Error(`sdxi serve did not start: ${text}`);
  }

  /** @returns its exit status */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const exited = once(this.child, 'exit');
    this.child.kill(signal);
    const [code] = (await exited) as [number | null];
    rmSync(this.folder, { recursive: true, force: true });
    return code;
  }
}
