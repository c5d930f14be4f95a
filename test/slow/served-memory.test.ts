/** The memory of a client: many maps of one file, maps that come and go under copies, large ones, and the log of what was written. */
import { ftruncateSync, readSync, writeSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { closeFd, createMemfd } from '../../src/native/libc.js';
import { ContextState } from '../../src/spec/index.js';
import { Command, MapFlag } from '../../src/vfio-user/messages.js';
import { mappings, Oddities, until } from '../serve/hostile.js';
import { ARENA_IOVA, DATA, Mini } from '../serve/mini.js';
import { body, RawClient } from '../serve/raw.js';
import { type Rig, startServer } from '../serve/rig.js';

const PAGE = 0x1000;
const FAR = 0x1_0000_0000;

let rig: Rig;
let client: RawClient;
let device: Mini;
const odd = new Oddities();
afterEach(async () => {
  await rig.close();
  device.close();
  odd.close();
});

async function begin(options: Parameters<typeof startServer>[0] = {}, grant: (mini: Mini) => void = (mini) => mini.grant()): Promise<void> {
  rig = await startServer({ limits: { logLines: 10_000 }, ...options });
  client = rig.connect();
  device = new Mini(client);
  grant(device);
  device.up();
}

const at = (fd: number, position: number, length: number) => {
  const bytes = Buffer.alloc(length);
  readSync(fd, bytes, 0, length, position);
  return bytes;
};
const pattern = (length: number, seed = 1) => Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >>> 8)) & 0xff));

/** Copies, and says how it went. */
function copied(from: number, to: number, size: number): boolean {
  device.copy(from, to, size);
  device.ring();
  device.until('the end of the copy', () => device.done || device.state !== ContextState.RUN);
  return device.done && !device.failed;
}

/** Sends maps without waiting for each. @returns the errnos that were not 0 */
function mapMany(maps: readonly { address: number; offset: number; size?: number; fd: number }[]): number[] {
  const wrong: number[] = [];
  for (let from = 0; from < maps.length; from += 256) {
    const ids = maps.slice(from, from + 256).map(({ address, offset, size = PAGE, fd }) => {
      const content = body({ u32: 32 }, { u32: 3 }, { u64: offset }, { u64: address }, { u64: size });
      return client.send(Command.DMA_MAP, content, [fd]);
    });
    for (const id of ids) {
      const { errno } = client.answer(id);
      if (errno !== 0) wrong.push(errno);
    }
  }
  return wrong;
}

/** A file goes soon after the last map that lies in it. */
const unmapped = () => until('the file is unmapped', () => mappings('sdxi-hostile') === 0);

describe('files', () => {
  it('a file that is mapped page by page, 65,534 times, is one mapping of the process', { timeout: 60_000 }, async () => {
    await begin();
    const pages = 65_534;
    const fd = odd.memory(pages * PAGE);
    // In another order than they have in the file, and with holes.
    const maps = Array.from({ length: pages }, (_, i) => ({ address: FAR + 2 * i * PAGE, offset: ((i * 40_503) % pages) * PAGE, fd }));
    expect(mapMany(maps)).toEqual([]);
    expect(mappings('sdxi-hostile')).toBe(1);
    const last = maps[pages - 1];
    writeSync(fd, pattern(PAGE), 0, PAGE, last.offset);
    expect(copied(last.address, ARENA_IOVA + DATA, PAGE)).toBe(true);
    expect(device.bytes.subarray(DATA, DATA + PAGE).equals(pattern(PAGE))).toBe(true);
    expect(client.unmap(FAR, 2 * pages * PAGE)).toBe(0);
    await unmapped();
  });

  it('a function whose own structures lie in page maps works, and copies run over them page by page', async () => {
    await begin({}, (mini) => {
      client = mini.client;
      const pages = mini.bytes.length / PAGE;
      expect(mapMany(Array.from({ length: pages }, (_, i) => ({ address: ARENA_IOVA + i * PAGE, offset: i * PAGE, fd: mini.fd })))).toEqual(
        [],
      );
    });
    const size = 0x3_0000 - 77;
    const source = pattern(size, 3);
    device.bytes.set(source, DATA + 5);
    expect(copied(ARENA_IOVA + DATA + 5, ARENA_IOVA + DATA + 0x5_0003, size)).toBe(true);
    expect(device.bytes.subarray(DATA + 0x5_0003, DATA + 0x5_0003 + size).equals(source)).toBe(true);
  });

  it('go with the last map that lies in them', async () => {
    await begin();
    const fd = odd.memory(4 * PAGE);
    for (let i = 0; i < 4; i++) expect(client.map(FAR + i * PAGE, PAGE, fd, { offset: i * PAGE })).toBe(0);
    for (const i of [2, 0, 3]) {
      expect(client.unmap(FAR + i * PAGE, PAGE)).toBe(0);
      expect(mappings('sdxi-hostile')).toBe(1);
    }
    expect(client.unmap(FAR + PAGE, PAGE)).toBe(0);
    await unmapped();
    // Reading and writing are two mappings, each with its own end.
    expect(client.map(FAR, PAGE, fd)).toBe(0);
    expect(client.map(FAR + PAGE, PAGE, fd, { flags: MapFlag.READ })).toBe(0);
    expect(mappings('sdxi-hostile')).toBe(2);
    expect(client.unmap(FAR, 2 * PAGE)).toBe(0);
    await unmapped();
  });

  it('that have grown are mapped anew; what lay in the old mapping goes on', async () => {
    await begin();
    const fd = odd.memory(PAGE);
    expect(client.map(FAR, PAGE, fd)).toBe(0);
    ftruncateSync(fd, 3 * PAGE);
    expect(client.map(FAR + PAGE, 2 * PAGE, fd, { offset: PAGE })).toBe(0);
    const source = pattern(3 * PAGE, 5);
    device.bytes.set(source, DATA);
    expect(copied(ARENA_IOVA + DATA, FAR, 3 * PAGE)).toBe(true);
    expect(at(fd, 0, 3 * PAGE).equals(source)).toBe(true);
    expect(client.unmap(FAR, PAGE)).toBe(0);
    expect(copied(FAR + PAGE, ARENA_IOVA + DATA + 0x1_0000, 2 * PAGE)).toBe(true);
    expect(client.unmap(FAR + PAGE, 2 * PAGE)).toBe(0);
    await unmapped();
  });

  it('of more than 2 GiB are reached to their end, and across the borders of their windows', async () => {
    await begin();
    const size = 5 * 2 ** 30;
    const fd = odd.memory(size);
    // So that no border of the addresses is one of the file.
    expect(client.map(FAR + PAGE, size, fd)).toBe(0);
    const source = pattern(0x1_0000, 7);
    for (const position of [2 ** 31 - 1000, 2 ** 32 - 0x8000, 2 ** 32 + 12_345, size - 0x1_0000]) {
      device.bytes.set(source, DATA);
      device.bytes.fill(0, DATA + 0x2_0000, DATA + 0x3_0000);
      expect(copied(ARENA_IOVA + DATA, FAR + PAGE + position, 0x1_0000)).toBe(true);
      expect(at(fd, position, 0x1_0000).equals(source)).toBe(true);
      expect(copied(FAR + PAGE + position, ARENA_IOVA + DATA + 0x2_0000, 0x1_0000)).toBe(true);
      expect(device.bytes.subarray(DATA + 0x2_0000, DATA + 0x3_0000).equals(source)).toBe(true);
    }
    // The same file again, from the middle of a window.
    expect(client.map(2 ** 40, 2 ** 31 + PAGE, fd, { offset: 2 ** 31 - PAGE })).toBe(0);
    expect(copied(2 ** 40 + PAGE - 1000, ARENA_IOVA + DATA + 0x4_0000, 0x1_0000)).toBe(true);
    expect(device.bytes.subarray(DATA + 0x4_0000, DATA + 0x5_0000).equals(source)).toBe(true);
    expect(mappings('sdxi-hostile')).toBe(1);
  });

  it('S-102 an unmap in the middle of copies returns when they use it no more', async () => {
    await begin();
    const bytes = 4 << 20;
    for (let round = 0; round < 10; round++) {
      const fd = odd.memory(bytes);
      expect(client.map(FAR, bytes, fd)).toBe(0);
      for (let i = 0; i < 64; i++) {
        device.bytes.fill(i + 1, DATA + i * PAGE, DATA + (i + 1) * PAGE);
        device.copy(ARENA_IOVA + DATA, FAR + i * 0x8000, 0x8_0000);
      }
      const first = device.readIndex;
      device.ring();
      device.until('some of it', () => device.readIndex > first + round);
      expect(client.unmap(FAR, bytes)).toBe(0);
      await unmapped();
      const then = at(fd, 0, bytes);
      device.until('the end of it', () => device.done || device.state !== ContextState.RUN);
      expect(at(fd, 0, bytes).equals(then)).toBe(true);
      device.up();
      device.bytes.fill(0, 0x5000, 0x5010);
    }
  });
});

describe('what a client can use up', () => {
  it('of addresses has an end, and other functions of the process live on', async () => {
    await begin({ functions: 2 });
    const errnos: number[] = [];
    for (let i = 1; i <= 16; i++) errnos.push(client.map(i * 2 ** 44, 2 ** 39));
    const sparse = odd.memory(PAGE);
    ftruncateSync(sparse, 2 ** 39);
    errnos.push(client.map(2 ** 52, 2 ** 39, sparse));
    expect(errnos.filter((errno) => errno === 0).length).toBe(1);
    expect(errnos.filter((errno) => errno === 12).length).toBe(16);
    await until('the log says so', () => rig.log.some((line) => line.includes('there is no room')));
    const other = new RawClient(rig.server.sockets[1]);
    expect(other.map(0, 2 ** 32)).toBe(0);
    other.close();
    // With less there is room again.
    expect(client.unmap(2 ** 44, 2 ** 39)).toBe(0);
    expect(client.map(2 ** 45, 2 ** 32)).toBe(0);
  });

  it('of mappings of the process has an end', { timeout: 60_000 }, async () => {
    await begin();
    let errno = 0;
    let count = 0;
    for (; errno === 0 && count < 9000; count++) {
      const fd = createMemfd('sdxi-many', PAGE);
      errno = client.map(FAR + count * PAGE, PAGE, fd);
      closeFd(fd);
    }
    expect(errno).toBe(12);
    expect(mappings('sdxi-many')).toBe(8191);
    expect(copied(FAR + 8190 * PAGE, ARENA_IOVA + DATA, PAGE)).toBe(true);
    client.close();
    await until('all are gone', () => mappings('sdxi-many') === 0);
  });
});

/** Pages of the two areas in which random maps are made: what is read lies in one file, what is written in another. */
const AREA = 12;
const FILE = 8;
const SOURCE = FAR;
const TARGET = 2 * FAR;
const operations = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom('map' as const, 'map' as const, 'unmap' as const),
      target: fc.boolean(),
      page: fc.nat(AREA - 1),
      pages: fc.integer({ min: 1, max: 4 }),
      filePage: fc.nat(FILE - 1),
      access: fc.constantFrom(1, 2, 3, 3),
    }),
    fc.record({
      kind: fc.constant('copy' as const),
      from: fc.nat(AREA * PAGE),
      to: fc.nat(AREA * PAGE),
      size: fc.integer({ min: 1, max: 3 * PAGE }),
    }),
  ),
  { minLength: 10, maxLength: 40 },
);

interface Granted {
  page: number;
  pages: number;
  filePage: number;
  access: number;
}

/** What maps in force mean: the byte of the file for an address of an area. */
class Model {
  readonly maps: Granted[] = [];
  readonly bytes: Buffer;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  byte(address: number, access: number): number {
    const page = Math.floor(address / PAGE);
    const map = this.maps.find((one) => page >= one.page && page < one.page + one.pages && (one.access & access) !== 0);
    return map === undefined ? -1 : (map.filePage + page - map.page) * PAGE + (address % PAGE);
  }
}

describe('copies while maps come and go', () => {
  it('move exactly what is granted, and never touch another byte', { timeout: 120_000 }, async () => {
    await begin();
    const files = [odd.memory(FILE * PAGE), odd.memory(FILE * PAGE)];
    await fc.assert(
      fc.asyncProperty(operations, async (list) => {
        const models = files.map((fd, i) => {
          const bytes = pattern(FILE * PAGE, i + 9);
          writeSync(fd, bytes, 0, bytes.length, 0);
          return new Model(bytes);
        });
        for (const operation of list) {
          if (operation.kind === 'copy') {
            const { from, to, size } = operation;
            const places = Array.from({ length: size }, (_, i) => [models[0].byte(from + i, 1), models[1].byte(to + i, 2)]);
            const whole = places.every(([source, target]) => source >= 0 && target >= 0);
            expect(copied(SOURCE + from, TARGET + to, size)).toBe(whole);
            const now = at(files[1], 0, FILE * PAGE);
            if (whole) {
              // Two pages may show the same page of the file: the last write counts.
              const distinct = new Set(places.map(([, target]) => target)).size === size;
              if (distinct) for (const [source, target] of places) models[1].bytes[target] = models[0].bytes[source];
              else for (const [, target] of places) models[1].bytes[target] = now[target];
            } else {
              for (const [source, target] of places) {
                if (target < 0) continue;
                const allowed = [models[1].bytes[target], models[0].bytes[source] ?? -1];
                if (!allowed.includes(now[target]) && new Set(places.map(([, one]) => one)).size === size)
                  expect(allowed).toContain(now[target]);
                models[1].bytes[target] = now[target];
              }
              device.up();
            }
            expect(now.equals(models[1].bytes)).toBe(true);
            expect(at(files[0], 0, FILE * PAGE).equals(models[0].bytes)).toBe(true);
            continue;
          }
          const { kind, target, page, filePage, access } = operation;
          const pages = Math.min(operation.pages, AREA - page, FILE - filePage);
          const model = models[target ? 1 : 0];
          const address = (target ? TARGET : SOURCE) + page * PAGE;
          const meets = model.maps.filter((one) => page < one.page + one.pages && one.page < page + pages);
          if (kind === 'map') {
            const errno = client.map(address, pages * PAGE, files[target ? 1 : 0], { flags: access, offset: filePage * PAGE });
            expect(errno).toBe(meets.length > 0 ? 17 : 0);
            if (errno === 0) model.maps.push({ page, pages, filePage, access });
          } else {
            const cut = meets.some((one) => one.page < page || one.page + one.pages > page + pages);
            expect(client.unmap(address, pages * PAGE)).toBe(cut ? 22 : meets.length === 0 ? 2 : 0);
            if (!cut) for (const one of meets) model.maps.splice(model.maps.indexOf(one), 1);
          }
        }
        for (const base of [SOURCE, TARGET]) client.unmap(base, AREA * PAGE);
        await unmapped();
      }),
      { numRuns: 25 },
    );
  });
});

describe('the log of dirty pages', () => {
  const SET = 0x2_0000;
  const GET = 0x1_0000;
  const feature = (flags: number, data: Uint8Array = new Uint8Array(0), room = data.length) =>
    client.request(Command.DEVICE_FEATURE, body({ u32: 8 + room }, { u32: flags }, data));
  const startLog = (pageBytes: number, ...ranges: number[]) =>
    expect(
      feature(SET | 6, body({ u64: pageBytes }, { u32: ranges.length / 2 }, { u32: 0 }, ...ranges.map((u64) => ({ u64 })))).errno,
    ).toBe(0);
  /** Units of the range that are reported. */
  function dirty(iova: number, length: number, unit: number): number[] {
    const bitmapBytes = Math.ceil(length / unit / 64) * 8;
    const { errno, body: answer } = feature(GET | 8, body({ u64: iova }, { u64: length }, { u64: unit }), 24 + bitmapBytes);
    expect([errno, answer.length, answer.readUInt32LE(0)]).toEqual([0, 32 + bitmapBytes, 32 + bitmapBytes]);
    const units: number[] = [];
    for (let i = 0; i < bitmapBytes * 8; i++) {
      const word = answer.readBigUInt64LE(32 + Math.floor(i / 64) * 8);
      if (((word >> BigInt(i % 64)) & 1n) === 1n) units.push(i);
    }
    return units;
  }
  const DATA_PAGES = ((1 << 20) - DATA) / PAGE;
  const HALF = (DATA_PAGES / 2) * PAGE;

  it.each([false, true])(
    'tells every page that was written, and no other of the data (by messages: %s)',
    { timeout: 60_000 },
    async (byMessages) => {
      await begin({}, (mini) => mini.grant({ byMessages }));
      const write = fc.record({ to: fc.nat(HALF - 1), size: fc.integer({ min: 1, max: 3 * PAGE }) });
      fc.assert(
        fc.property(fc.array(write, { maxLength: 6 }), fc.constantFrom(4096, 8192, 65_536), (writes, pageBytes) => {
          startLog(pageBytes);
          const wanted = new Set<number>();
          for (const { to, size: asked } of writes) {
            const size = Math.min(asked, HALF - to);
            expect(copied(ARENA_IOVA + DATA, ARENA_IOVA + DATA + HALF + to, size)).toBe(true);
            const first = Math.floor((HALF + to) / pageBytes);
            for (let page = first; page <= Math.floor((HALF + to + size - 1) / pageBytes); page++) wanted.add(page);
          }
          // Page by page, or all at once: it is told once.
          const units = dirty(ARENA_IOVA + DATA, DATA_PAGES * PAGE, pageBytes);
          expect(units).toEqual([...wanted].sort((a, b) => a - b));
          expect(dirty(ARENA_IOVA + DATA, DATA_PAGES * PAGE, pageBytes)).toEqual([]);
          // The function has written its own structures as well: index and completion.
          const own = dirty(ARENA_IOVA, DATA, 4096);
          if (writes.length > 0) expect(own).toEqual(expect.arrayContaining([3, 5]));
          expect(feature(SET | 7).errno).toBe(0);
        }),
        { numRuns: 30 },
      );
    },
  );

  it('has the format of the protocol: 64-bit words, bit n for unit n from the first address on', async () => {
    await begin();
    startLog(4096);
    for (const page of [0, 9, 64, 65, 127]) expect(copied(ARENA_IOVA + DATA + 0x400, ARENA_IOVA + DATA + page * PAGE, 8)).toBe(true);
    const { body: answer } = feature(GET | 8, body({ u64: ARENA_IOVA + DATA }, { u64: 130 * PAGE }, { u64: 4096 }), 48);
    expect(answer.subarray(32).toString('hex')).toBe('01020000000000000300000000000080' + '0000000000000000');
  });

  it('a page of the log that is asked for in parts is not forgotten with the first of them', async () => {
    await begin();
    startLog(65_536);
    expect(copied(ARENA_IOVA + DATA, ARENA_IOVA + DATA + 5 * PAGE, PAGE)).toBe(true);
    // Which of the 16 pages was written nobody knows, so each of them has to be told.
    for (let page = 0; page < 16; page++) expect(dirty(ARENA_IOVA + DATA + page * PAGE, PAGE, 4096)).toEqual([0]);
    expect(dirty(ARENA_IOVA + DATA, 16 * PAGE, 4096)).toHaveLength(16);
    expect(dirty(ARENA_IOVA + DATA, 16 * PAGE, 4096)).toEqual([]);
  });

  it('tells only what lies in the ranges that were asked for, and ends with its client', async () => {
    await begin();
    startLog(4096, ARENA_IOVA + DATA + 4 * PAGE, 2 * PAGE);
    expect(copied(ARENA_IOVA + DATA + HALF, ARENA_IOVA + DATA, 16 * PAGE)).toBe(true);
    expect(dirty(ARENA_IOVA + DATA, 16 * PAGE, 4096)).toEqual(expect.arrayContaining([4, 5]));
    client.close();
    client = rig.connect();
    expect(feature(SET | 7).errno).toBe(22);
  });
});
