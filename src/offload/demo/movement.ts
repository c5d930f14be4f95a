import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Prng } from '../../prng.js';
import { type BlockMover, copyFile } from '../file-copy.js';
import { rates, type Stage, type StepResult, timed } from './step.js';

const MIB = 2 ** 20;
const FILL_BYTES = 256 * MIB;
const PAGE_BYTES = 4096;
const PAGES = 16_384;
/** Pages that are handed over at once, as a kernel migrates folios. */
const PAGES_PER_BATCH = 512;
const FILL_BYTE = 0x5a;

/** The CPU where a mover would be: the same file copy with the CPU's own copy in the middle. */
const CPU: BlockMover = {
  alloc: (byteLength) => Buffer.from(new ArrayBuffer(byteLength)),
  free: () => {},
  batch: async (operations) => {
    let bytes = 0;
    for (const operation of operations) {
      if (operation.op !== 'copy') continue;
      (operation.destination as Uint8Array).set(operation.source as Uint8Array);
      bytes += operation.source.byteLength;
    }
    return { descriptors: 0, bytes };
  },
};

/** A real file from disk to disk through the function; the CPU does the same with another destination. */
export async function moveFile({ mover, file, directory, corrupt, signal }: Stage): Promise<StepResult> {
  const { size } = await stat(file);
  // Once for the page cache: the first reader would pay for the disk.
  const { sha256 } = await copyFile(CPU, file, join(directory, 'cpu'), { signal });
  const own = await copyFile(mover, file, join(directory, 'function'), { corrupt: corrupt === 'data', signal });
  const cpu = await copyFile(CPU, file, join(directory, 'cpu'), { signal });
  const ok = own.ok && own.sha256 === sha256;
  return {
    name: 'file',
    ok,
    what: `${file} read, moved, written, read back`,
    ...rates(size, own.seconds, cpu.seconds),
    remark: ok ? `sha256 ${own.sha256.slice(0, 16)}… equal` : `SHA-256 differs: ${own.sha256}, should be ${sha256}`,
    details: { file, sha256: own.sha256, sourceSha256: sha256, descriptors: own.descriptors },
  };
}

/** 256 MiB filled by REPCOPY, and by the CPU. */
export async function fillMemory({ mover, signal }: Stage): Promise<StepResult> {
  const target = mover.alloc(FILL_BYTES, { alignment: 4096 });
  try {
    // Pages have to exist before a clock runs; and what is there must not be right already.
    target.fill(~FILL_BYTE & 0xff);
    const seconds = await timed(() => mover.fill(target, FILL_BYTE, { signal }));
    const ok = isFilled(target, FILL_BYTE);
    const cpuSeconds = await timed(() => target.fill(FILL_BYTE));
    return {
      name: 'fill',
      ok,
      what: '256 MiB filled by REPCOPY',
      ...rates(FILL_BYTES, seconds, cpuSeconds),
      remark: ok ? undefined : 'a byte is wrong',
    };
  } finally {
    mover.free(target);
  }
}

function isFilled(bytes: Buffer, value: number): boolean {
  const page = Buffer.alloc(MIB, value);
  for (let at = 0; at < bytes.length; at += MIB) if (bytes.compare(page, 0, MIB, at, at + MIB) !== 0) return false;
  return true;
}

/** Copies of pages between two orders of the same memory: sources in its first half, destinations in the second. */
function pageLists(memory: Buffer, from: Uint32Array, to: Uint32Array) {
  const page = (index: number) => memory.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
  return Array.from({ length: PAGES / PAGES_PER_BATCH }, (_, batch) =>
    Array.from({ length: PAGES_PER_BATCH }, (_, i) => {
      const at = batch * PAGES_PER_BATCH + i;
      return { op: 'copy' as const, source: page(from[at]), destination: page(PAGES + to[at]) };
    }),
  );
}

/** 16,384 pages from random places to other random places, in batches of one promise each. */
export async function migratePages({ mover, signal }: Stage): Promise<StepResult> {
  const bytes = PAGES * PAGE_BYTES;
  const memory = mover.alloc(2 * bytes, { alignment: PAGE_BYTES });
  try {
    const random = new Prng(7);
    random.fill(memory.subarray(0, bytes));
    const from = random.permutation(PAGES);
    const to = random.permutation(PAGES);
    const lists = pageLists(memory, from, to);
    let descriptors = 0;
    const move = async () => {
      const results = await Promise.all(lists.map((list) => mover.batch(list, { signal })));
      descriptors = results.reduce((sum, result) => sum + result.descriptors, 0);
    };
    const moveByCpu = () => {
      for (let i = 0; i < PAGES; i++) memory.copyWithin((PAGES + to[i]) * PAGE_BYTES, from[i] * PAGE_BYTES, (from[i] + 1) * PAGE_BYTES);
    };
    // A first lap for both: pages have to exist, and code to be compiled, before a clock runs.
    await move();
    moveByCpu();
    memory.fill(0, bytes);
    const seconds = await timed(move);
    const wrong = lists.flat().filter(({ source, destination }) => source.compare(destination) !== 0).length;
    const cpuSeconds = await timed(moveByCpu);
    return {
      name: 'pages',
      ok: wrong === 0,
      what: '16,384 scattered 4 KiB pages moved in batches of 512',
      ...rates(bytes, seconds, cpuSeconds),
      remark: wrong === 0 ? undefined : `${wrong} pages are wrong`,
      details: { pages: PAGES, descriptors },
    };
  } finally {
    mover.free(memory);
  }
}
