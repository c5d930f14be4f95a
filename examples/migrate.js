/**
 * Moves a loaded SDXI function from one process to another: `node examples/migrate.js`.
 *
 * This process owns the memory (a memfd) and two others. The source loads a function, stops it in the middle of its work and hands over a
 * snapshot; the target makes its own function of it, lets everything finish, and checks every byte. Nothing is copied: both processes map
 * the same memory at the same DMA addresses.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { allocateRegion } from 'sdxi/driver';

const MIB = 2 ** 20;
/** Pages that nobody touches cost nothing. */
const MEMORY_BYTES = 512 * MIB;
/** Under this number the children find the memory. */
const MEMORY_FD = 4;
const TIMEOUT_MS = 60_000;

const memory = allocateRegion(MEMORY_BYTES, 'sdxi-migrate');

/** Starts one side. @returns its answer, once it has ended */
function run(name, request) {
  const script = fileURLToPath(new URL(`./migrate/${name}.js`, import.meta.url));
  const child = spawn(process.execPath, [script], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', memory.file.fd],
    timeout: TIMEOUT_MS,
  });
  return new Promise((resolve, reject) => {
    let answer;
    child.on('message', (message) => {
      answer = message;
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (code === 0 && answer) resolve(answer);
      else reject(new Error(`the ${name} ended with ${signal ?? `code ${code}`}`));
    });
    child.send({ ...request, memoryFd: MEMORY_FD });
  });
}

const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;

const source = await run('source', {});
const { executed, pending, state } = source;
console.log(`source (process ${source.pid})`);
console.log(`  contexts            ${source.contexts}, with ${executed + pending} descriptors in their rings`);
console.log(`  stopped after       ${executed} descriptors; ${pending} were not executed yet`);
const snapshot = JSON.parse(state.snapshot);
const mapped = snapshot.memory.reduce((sum, { byteLength }) => sum + byteLength, 0);
console.log('handed over');
console.log(`  snapshot            ${state.snapshot.length} bytes of JSON, version ${snapshot.version}`);
console.log(`  memory              ${mib(mapped)} in ${snapshot.memory.length} regions of one memfd, not copied`);

const target = await run('target', state);
console.log(`target (process ${target.pid})`);
console.log(`  executed            ${target.executed} descriptors, none of them twice`);
console.log(
  `  checked             ${target.blocks} completion blocks, ${target.counters} counters, ${mib(target.bytes)} of data, the guards between`,
);

if (pending === 0) throw new Error('the source had finished before it was stopped: nothing was moved');
if (target.executed !== pending) throw new Error(`${pending} descriptors were handed over, ${target.executed} executed`);
console.log('nothing was lost');
