/** Clients that are killed in the middle of copies, and a server in a process of its own that lives on. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { mappings, until } from '../serve/hostile.js';
import { RawClient } from '../serve/raw.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const KILLS = 50;
/** Until what a thread makes at its first use is made. */
const WARM_UP = 6;
const LIMIT_MS = 10_000;

let folder: string;
let program: string;
let server: ChildProcess;
let socket: string;

async function says(child: ChildProcess, text: string): Promise<void> {
  let all = '';
  const limit = AbortSignal.timeout(LIMIT_MS);
  for await (const [chunk] of on(child, limit)) {
    all += String(chunk);
    if (all.includes(text)) return;
  }
}

async function* on(child: ChildProcess, signal: AbortSignal): AsyncGenerator<unknown[]> {
  for (;;) yield await once(child.stdout as NodeJS.EventEmitter, 'data', { signal });
}

beforeAll(async () => {
  // Inside the project, so that its packages are found.
  folder = mkdtempSync(join(root, 'node_modules', '.killed-'));
  program = join(folder, 'killed.mjs');
  const bundle = await rolldown({ input: join(root, 'test', 'serve', 'killed.ts'), platform: 'node', external: [/^node:/, 'koffi'] });
  await bundle.write({ file: program, format: 'esm' });
  await bundle.close();
  socket = join(mkdtempSync(join(tmpdir(), 'sdxi-kill-')), 's');
  server = spawn(process.execPath, [join(root, 'bin', 'sdxi.js'), 'serve', '--socket', socket, '--max-cxt', '7'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await says(server, 'vfio-user-pci');
});

afterAll(async () => {
  const ended = once(server, 'exit');
  server.kill('SIGTERM');
  await ended;
  rmSync(folder, { recursive: true, force: true });
  rmSync(join(socket, '..'), { recursive: true, force: true });
});

const facts = () => {
  const pid = server.pid as number;
  return {
    files: readdirSync(`/proc/${pid}/fd`).length,
    memory: mappings('memfd:', pid),
    mappings: mappings('', pid),
    residentKiB: Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]),
  };
};

/** A client begins to copy, and is killed. */
async function kill(round: number): Promise<void> {
  const child = spawn(process.execPath, [program, socket, round % 3 === 2 ? 'messages' : 'files'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await says(child, 'copying');
  await pause(round % 7);
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
  // The next client is served, within a second.
  await until(
    'the next client is served',
    () => {
      try {
        const next = new RawClient(socket);
        next.register(0);
        next.close();
        return true;
      } catch {
        return false; // the one before is still being seen off
      }
    },
    1000,
  );
}

it(`a client is killed in the middle of copies, ${KILLS} times: the next is served, and nothing is left behind`, {
  timeout: 180_000,
}, async () => {
  for (let round = 0; round < WARM_UP; round++) await kill(round);
  await pause(50);
  const before = facts();
  for (let round = 0; round < KILLS; round++) await kill(round);
  await pause(50);
  const after = facts();
  expect(after).toMatchObject({ files: before.files, memory: before.memory });
  // Its own heap comes and goes.
  expect(after.mappings).toBeLessThan(before.mappings + 32);
  expect(Math.abs(after.residentKiB - before.residentKiB)).toBeLessThan(16 * 1024);
});
