import { decodeRegister, encodeRegister, MMIO_CTL2, Reg } from '../../spec/index.js';
import { decision, holds, requirement, section, skip } from '../check.js';
import { pattern } from '../memory.js';
import { copy, nop, patched, repcopy, writeImmediate } from '../program.js';
import type { Rig } from '../rig.js';

const SIZES = [1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 63, 64, 65, 127, 255, 256, 4095, 4096, 4097, 8191, 65_535, 65_536, 262_144, 1_048_576];
const GROUPS: [id: string, sizes: number[]][] = [
  ['bytes', SIZES.filter((size) => size < 64)],
  ['lines', SIZES.filter((size) => size >= 63 && size < 4095)],
  ['pages', SIZES.filter((size) => size >= 4095 && size < 65_535)],
  ['large', SIZES.filter((size) => size >= 65_535)],
];

/** Two buffers with patterns, bytes before and behind what is moved. */
function buffers(t: Rig, byteLength: number) {
  const source = t.mem.alloc('the source', byteLength);
  const target = t.mem.alloc('the destination', byteLength);
  source.put(0, pattern(byteLength, 1));
  target.put(0, pattern(byteLength, 2));
  return { source, target };
}

/** Copies one piece and looks at every byte of both buffers. */
async function copies(t: Rig, pieces: readonly [from: number, to: number, size: number][]): Promise<void> {
  const context = await t.worker();
  const byteLength = Math.max(...pieces.map(([from, to, size]) => Math.max(from, to) + size)) + 64;
  const { source, target } = buffers(t, byteLength);
  for (const [from, to, size] of pieces) {
    target.want(to, source.expected.slice(from, from + size));
    await context.run(copy(source.iova + from, target.iova + to, size));
    target.verify();
    source.verify();
  }
}

/** Bytes of memory page by page in the wrong order, at consecutive addresses. */
function scattered(t: Rig, name: string, pages: number) {
  const block = t.mem.alloc(name, pages * 4096, { align: 4096 });
  const iova = t.mem.reserve(pages * 4096);
  for (let page = 0; page < pages; page++) t.mem.alias(block, iova + page * 4096, { offset: (pages - 1 - page) * 4096, byteLength: 4096 });
  const place = (at: number) => (pages - 1 - Math.floor(at / 4096)) * 4096 + (at % 4096);
  return {
    iova,
    put(bytes: Uint8Array, at: number): void {
      for (let i = 0; i < bytes.length; i++) block.put(place(at + i), [bytes[i]]);
    },
    want(bytes: Uint8Array, at: number): void {
      for (let i = 0; i < bytes.length; i++) block.want(place(at + i), [bytes[i]]);
    },
  };
}

/** A copy inside one buffer. @param distance from source to destination */
async function overlaps(t: Rig, distance: number, size = 8192): Promise<void> {
  const context = await t.worker();
  const byteLength = size + 8192;
  const block = t.mem.alloc('the buffer', byteLength);
  block.put(0, pattern(byteLength));
  const from = 4096;
  block.want(from + distance, block.expected.slice(from, from + size));
  await context.run(copy(block.iova + from, block.iova + from + distance, size));
}

async function fills(t: Rig, sourceAt: number, at: number, size: number): Promise<void> {
  const context = await t.worker();
  const source = t.mem.alloc('the source block', 8192, { align: 4096 });
  source.put(0, pattern(8192));
  const target = t.mem.alloc('the destination', size + at + 64, { align: 4096 });
  target.put(0, pattern(target.byteLength, 2));
  target.want(
    at,
    Uint8Array.from({ length: size }, (_, i) => source.expected[sourceAt + (i % 4096)]),
  );
  await context.run(repcopy(source.iova + sourceAt, target.iova + at, size));
}

async function writes(t: Rig, at: number, data: Uint8Array): Promise<void> {
  const context = await t.worker();
  const target = t.mem.alloc('the destination', 128);
  target.put(0, pattern(128));
  target.want(at, data);
  await context.run(writeImmediate(target.iova + at, data));
}

/** A limit of 2 MiB, by CTL2 so that every function can be given it. */
function smallBuffers(t: Rig): void {
  t.write(Reg.CTL2, encodeRegister(MMIO_CTL2, { ...decodeRegister(MMIO_CTL2, t.read(Reg.CTL2)), max_buffer: 0 }));
}

export const dmaChecks = section(
  '5.3 DMA base operations',
  requirement('nop.completes', 'NOP completes and moves nothing', 'ref §5.3, SDXI 1.0 table 6-6', async (t) => {
    await (await t.worker()).run(nop());
  }),
  requirement('nop.context-0', 'base operations run in context 0 too', 'ref §2.8, O-16', async (t) => {
    const admin = await t.activate();
    const { source, target } = buffers(t, 4096);
    target.want(0, source.expected);
    await admin.run(nop(), copy(source.iova, target.iova, 4096));
  }),
  [1, 2, 5].map((fe) =>
    requirement(
      `nop.flags-${fe}`,
      `NOP with flags ${[fe & 1 && 'se', fe & 4 && 'fe', fe & 2 && 'csr'].filter(Boolean).join(' and ')}`,
      'ref §5.1',
      async (t) => {
        const context = await t.worker();
        await context.run(nop({ se: fe & 1, fe: fe >> 2, csr: (fe >> 1) & 1 }), nop());
      },
    ),
  ),
  GROUPS.map(([id, sizes]) =>
    requirement(`copy.sizes.${id}`, `COPY of ${sizes.join(', ')} bytes, not one more`, 'ref §5.3, SDXI 1.0 table 6-8', (t) =>
      copies(
        t,
        sizes.map((size) => [0, 16, size]),
      ),
    ),
  ),
  requirement('copy.alignments', 'COPY between all alignments modulo 8', 'ref §5.3', (t) =>
    copies(
      t,
      Array.from({ length: 64 }, (_, i) => [i >> 3, 64 + (i & 7), 61]),
    ),
  ),
  requirement('copy.page-borders', 'COPY across page borders at both ends', 'ref §5.3', (t) =>
    copies(t, [
      [4090, 8180, 12],
      [1, 4095, 4098],
      [4095, 1, 8194],
      [3, 5, 20_000],
    ]),
  ),
  requirement('copy.two-mib', 'COPY of 2 MiB, which the smallest max_buffer allows', 'ref §2.8', async (t) => {
    smallBuffers(t);
    await copies(t, [[0, 0, 2 ** 21]]);
  }),
  requirement('copy.scattered', 'COPY over mappings of one page each, in any order of memory', 'ref §5.3, §7.1', async (t) => {
    const context = await t.worker();
    const source = scattered(t, 'the source', 8);
    const target = scattered(t, 'the destination', 8);
    const data = pattern(8 * 4096 - 100);
    source.put(data, 37);
    target.want(data, 61);
    await context.run(copy(source.iova + 37, target.iova + 61, data.length));
  }),
  requirement('copy.many', '200 copies of different sizes in one batch', 'ref §5.3', async (t) => {
    const context = await t.worker();
    const { source, target } = buffers(t, 200 * 256);
    const batch = Array.from({ length: 200 }, (_, i) => {
      const size = 1 + ((i * 37) % 250);
      target.want(i * 256, source.expected.slice(i * 256, i * 256 + size));
      return copy(source.iova + i * 256, target.iova + i * 256, size);
    });
    await context.run(...batch, nop({ fe: 1 }));
  }),
  requirement('copy.same-source', 'COPY leaves its source as it is', 'ref §4.0', async (t) => {
    const context = await t.worker();
    const source = t.mem.special('the source', 4096, { access: 1 });
    source.put(0, pattern(4096));
    const target = t.mem.alloc('the destination', 4096);
    target.want(0, source.expected);
    await context.run(copy(source.iova, target.iova, 4096));
  }),
  requirement('copy.write-only', 'a destination needs no read permission', 'ref §7.1', async (t) => {
    const context = await t.worker();
    const { source } = buffers(t, 4096);
    const target = t.mem.special('a write-only destination', 4096, { access: 2 });
    target.want(0, source.expected);
    await context.run(copy(source.iova, target.iova, 4096));
  }),
  decision('copy.attr', 'any attr is accepted and changes nothing', 'S-18', async (t) => {
    const context = await t.worker();
    const { source, target } = buffers(t, 4096);
    target.want(0, source.expected);
    await context.run(copy(source.iova, target.iova, 4096, { attr: 0xff }));
  }),
  [
    ['forward', 100],
    ['backward', -100],
    ['in-place', 0],
    ['by-one', 1],
  ].map(([id, distance]) =>
    decision(`copy.overlap.${id}`, `COPY onto itself, ${distance} bytes away: as if the source were read first`, 'S-39', (t) =>
      overlaps(t, distance as number),
    ),
  ),
  decision('copy.overlap.large', 'a COPY of 1 MiB onto itself, 4000 bytes on: as if the source were read first', 'S-39, S-41', (t) =>
    overlaps(t, 4000, 2 ** 20),
  ),
  requirement('copy.limit', 'a size above the limit of CTL2.max_buffer fails before any access', 'ref §5.3, §2.5', async (t) => {
    smallBuffers(t);
    const context = await t.worker();
    await context.fails(copy(t.mem.hole, t.mem.hole + 2 ** 24, 2 ** 21 + 1), { step: 7, sub: 3 });
  }),
  requirement('copy.limit.cap', 'a size above the limit of CAP1.max_buffer fails', 'ref §2.8, O-24', async (t) => {
    if (t.caps.maxBufferBytes >= 2 ** 32) skip('CAP1.max_buffer allows all that a descriptor can say');
    t.write(Reg.CTL2, t.read(Reg.CTL2) | 0xfn);
    const context = await t.worker();
    await context.fails(copy(t.mem.hole, t.mem.hole + 2 ** 34, t.caps.maxBufferBytes + 1), { step: 7, sub: 3 });
  }),
  [1, 2, 3, 4, 7, 8, 15, 16, 31, 32].map((size) =>
    decision(`wrt-imm.${size}`, `WRT_IMM of ${size} bytes`, 'S-21', (t) => writes(t, 64, pattern(size, size))),
  ),
  decision('wrt-imm.unaligned', 'WRT_IMM at every alignment modulo 8', 'S-21', async (t) => {
    const context = await t.worker();
    const target = t.mem.alloc('the destination', 1024);
    for (let at = 0; at < 8; at++) {
      const data = pattern(19, at + 1);
      target.want(at * 65, data);
      await context.run(writeImmediate(target.iova + at * 65, data));
    }
  }),
  decision('wrt-imm.page-border', 'WRT_IMM across two mappings', 'S-21', async (t) => {
    const context = await t.worker();
    const target = t.mem.special('the destination', 8192, { pages: true });
    target.want(4080, pattern(32));
    await context.run(writeImmediate(target.iova + 4080, pattern(32)));
  }),
  decision('wrt-imm.33', 'WRT_IMM of 33 bytes fails', 'S-21', async (t) => {
    const context = await t.worker();
    const target = t.mem.alloc('the destination', 64);
    await context.fails(writeImmediate(target.iova, pattern(33)), { step: 7, sub: 3 });
  }),
  [
    ['one-block', 0, 0, 4096],
    ['blocks', 0, 0, 65_536],
    ['partial', 0, 0, 10_000],
    ['byte', 0, 0, 1],
    ['unaligned', 0, 777, 9000],
    ['source-unaligned', 1234, 0, 9000],
    ['large', 0, 0, 1_048_576],
  ].map(([id, sourceAt, at, size]) =>
    decision(
      `repcopy.${id}`,
      `REPCOPY of ${size} bytes${at ? ' to an odd address' : ''}${sourceAt ? ' from an odd address' : ''}`,
      'S-22',
      (t) => fills(t, sourceAt as number, at as number, size as number),
    ),
  ),
  decision('repcopy.source-size', 'REPCOPY reads 4 KiB of its source, no more', 'S-22', async (t) => {
    const context = await t.worker();
    const source = t.mem.special('the source block', 4096);
    source.put(0, pattern(4096));
    const target = t.mem.alloc('the destination', 12_288);
    for (let at = 0; at < 12_288; at += 4096) target.want(at, source.expected);
    await context.run(repcopy(source.iova, target.iova, 12_288));
  }),
  decision(
    'body.ignored',
    'bytes of a COPY that no field names are ignored',
    'S-1',
    async (t) => {
      const context = await t.worker();
      const { source, target } = buffers(t, 256);
      target.want(0, source.expected);
      await context.run(patched(copy(source.iova, target.iova, 256), { 9: 0xff, 10: 0xff, 11: 0xff, 32: 0xff, 55: 0xff }));
      holds(target.isAsExpected(), 'the copy went wrong');
    },
    { options: ['strictReserved'] },
  ),
);
