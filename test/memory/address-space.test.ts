import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Access, ADDRESS_LIMIT, AddressSpace, AddressSpaces, type Mapping, NO_PASID } from '../../src/memory/address-space.js';
import { Window } from '../../src/memory/window.js';
import { ACCESSES_STAY_IN_ORDER } from '../../src/spec/u64.js';

/** Addresses that the random programs use, one model cell each. */
const CELLS = 640;
const WINDOWS = [0, 1, 2].map(() => new Window(new ArrayBuffer(CELLS + 64)));

/** What the model knows of one mapped address. */
interface Cell {
  id: number;
  access: number;
  window: number;
  index: number;
}

/** The naive model: one array element per address. */
class Model {
  readonly cells: (Cell | undefined)[] = Array.from({ length: CELLS });
  readonly ranges = new Map<number, { start: number; end: number }>();

  overlaps(start: number, end: number): boolean {
    return this.cells.slice(start, end).some((cell) => cell !== undefined);
  }

  /** Ids of the mappings that the range touches, or undefined when it cuts one. */
  inside(start: number, end: number): number[] | undefined {
    const touched = [...this.ranges].filter(([, range]) => range.start < end && range.end > start);
    if (touched.some(([, range]) => range.start < start || range.end > end)) return undefined;
    return touched.map(([id]) => id);
  }

  refusal(start: number, end: number): string {
    return this.cells.slice(start, end).some((cell) => cell === undefined) ? 'unmapped' : 'refused';
  }
}

const address = fc.integer({ min: 0, max: CELLS - 1 });
const length = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: CELLS }));
const access = fc.constantFrom(Access.READ, Access.WRITE, Access.READ_WRITE);
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('map' as const),
      address,
      length: fc.integer({ min: 1, max: 40 }),
      access,
      window: fc.nat(2),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unmap' as const), address, length }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unmapExactly' as const), pick: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('look' as const), address, length, access }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('block' as const), blocked: fc.boolean() }) },
);

/** Compares everything that can be asked about a range. */
function look(space: AddressSpace, model: Model, start: number, bytes: number, wanted: number, blocked: boolean): void {
  const end = start + bytes;
  const cell = model.cells[start];
  const found = space.at(start);
  expect(found !== undefined).toBe(cell !== undefined);
  if (found && cell) expect([found.u8, start + found.shift]).toEqual([WINDOWS[cell.window].u8, cell.index]);

  const cells = Array.from({ length: bytes }, (_, i) => model.cells[start + i]);
  const whole = cell !== undefined && !blocked && cells.every((c) => c?.id === cell.id) && (cell.access & wanted) === wanted;
  expect(space.find(start, bytes, wanted) !== undefined).toBe(whole);
  // With bus mastering off nothing is even translated (S-47).
  const reason = blocked ? 'refused' : end > CELLS ? 'unmapped' : model.refusal(start, end);
  expect(space.refusal(start, bytes)).toBe(reason);

  // translate: every byte up to the first that cannot be accessed, in order, and why it ends.
  const stop = cells.findIndex((c) => c === undefined || blocked || (c.access & wanted) !== wanted);
  const reach = stop < 0 ? bytes : stop;
  const walk = space.translate(start, bytes, wanted);
  let at = start;
  let step = walk.next();
  for (; !step.done; step = walk.next()) {
    expect(step.value.address).toBe(at);
    for (let i = 0; i < step.value.length; i++, at++) {
      const expected = model.cells[at] as Cell;
      expect(at + step.value.mapping.shift).toBe(expected.index);
      expect(step.value.mapping.u8).toBe(WINDOWS[expected.window].u8);
    }
  }
  expect(at - start).toBe(reach);
  if (stop < 0) expect(step.value).toBeUndefined();
  else expect(step.value).toEqual({ address: start + stop, why: cells[stop] === undefined && !blocked ? 'unmapped' : 'refused' });
}

describe('AddressSpace against a naive model', () => {
  it('maps, unmaps, finds, translates and blocks like one array element per address', () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 1, maxLength: 60 }), (operations) => {
        const space = new AddressSpace();
        const model = new Model();
        let blocked = false;
        let nextId = 0;
        const held: { mapping: Mapping; id: number }[] = [];
        const forget = (id: number) => {
          const range = model.ranges.get(id) as { start: number; end: number };
          model.ranges.delete(id);
          model.cells.fill(undefined, range.start, range.end);
          return range.end - range.start;
        };
        for (const op of operations) {
          if (op.kind === 'map') {
            const bytes = Math.min(op.length, CELLS - op.address);
            const offset = (op.address % 8) + 8;
            if (model.overlaps(op.address, op.address + bytes)) {
              expect(() => space.map(op.address, bytes, op.access, WINDOWS[op.window], offset)).toThrow(/mapped already/);
            } else {
              const id = nextId++;
              held.push({ id, mapping: space.map(op.address, bytes, op.access, WINDOWS[op.window], offset) });
              model.ranges.set(id, { start: op.address, end: op.address + bytes });
              for (let i = 0; i < bytes; i++) model.cells[op.address + i] = { id, access: op.access, window: op.window, index: offset + i };
            }
          } else if (op.kind === 'unmap' || op.kind === 'unmapExactly') {
            const ranges = [...model.ranges.values()];
            const range = op.kind === 'unmap' || ranges.length === 0 ? undefined : ranges[op.pick % ranges.length];
            const start = range ? range.start : op.kind === 'unmap' ? op.address : 0;
            const bytes = range ? range.end - range.start : op.kind === 'unmap' ? op.length : 1;
            const inside = model.inside(start, start + bytes);
            if (inside === undefined) {
              expect(() => space.unmap(start, bytes)).toThrow(/would cut a mapping in two/);
            } else {
              expect(space.unmap(start, bytes)).toBe(inside.reduce((sum, id) => sum + forget(id), 0));
            }
          } else if (op.kind === 'block') {
            blocked = op.blocked;
            space.setBlocked(blocked);
          } else {
            look(space, model, op.address, op.length, op.access, blocked);
          }
          expect(space.size).toBe(model.ranges.size);
        }
        const sorted = [...model.ranges.values()].sort((a, b) => a.start - b.start);
        expect([...space].map(({ start, end }) => ({ start, end }))).toEqual(sorted);
        for (const { mapping, id } of held) {
          if (model.ranges.has(id)) continue;
          for (let at = 0; at < CELLS; at += 7) expect(mapping.covers(at, 1, Access.READ)).toBe(false);
        }
        space.clear();
        expect([space.size, [...space].length]).toEqual([0, 0]);
      }),
      { numRuns: 400 },
    );
  });

  it('keeps thousands of single-page mappings in order, whatever the order they come and go in', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1100, max: 2600 }), (seed, pages) => {
        const order = shuffled(pages, seed);
        const window = new Window(new ArrayBuffer(4096));
        const space = new AddressSpace();
        // Two pages apart, so that no two mappings touch.
        for (const page of order) space.map(page * 8192, 4096, Access.READ_WRITE, window);
        expect(space.size).toBe(pages);
        const starts = [...space].map((mapping) => mapping.start);
        expect(starts).toEqual(Array.from({ length: pages }, (_, i) => i * 8192));
        const gone = new Set(order.filter((_, i) => i % 3 !== 0));
        for (const page of shuffled(pages, seed + 1)) if (gone.has(page)) expect(space.unmap(page * 8192, 4096)).toBe(4096);
        for (let page = 0; page < pages; page++) {
          expect(space.at(page * 8192 + 4095)?.start).toBe(gone.has(page) ? undefined : page * 8192);
          expect(space.at(page * 8192 + 4096)).toBeUndefined();
        }
        for (const page of gone) space.map(page * 8192, 4096, Access.READ, window);
        expect(space.size).toBe(pages);
        expect(space.unmap(0, pages * 8192)).toBe(pages * 4096);
        expect(space.size).toBe(0);
      }),
      { numRuns: 6 },
    );
  });
});

describe('AddressSpace.map', () => {
  const window = new Window(new ArrayBuffer(8192));
  const refuses = (...args: [number, number, number, number?]) => {
    const space = new AddressSpace();
    expect(() => space.map(args[0], args[1], args[2], window, args[3] ?? 0)).toThrow(
      expect.objectContaining({ code: 'ERR_SDXI_MAPPING', hint: expect.any(String) }),
    );
    expect(space.size).toBe(0);
  };

  it.each([
    ['an empty range', 0, 0],
    ['a negative length', 0, -8],
    ['a negative address', -8, 8],
    ['a fraction', 0.5, 8],
    ['a fraction of a byte', 0, 8.5],
    ['no number', Number.NaN, 8],
    ['S-103 an address of 2^53', 2 ** 53, 8],
    ['S-103 a range that reaches beyond 2^53', 2 ** 53 - 1, 2],
    ['S-103 a range that reaches far beyond 2^53', 2 ** 53 - 8, 4096],
    ['more than the window holds', 0, 8200],
  ])('refuses %s', (_name, address, length) => refuses(address, length, Access.READ));

  it('refuses a part that reaches beyond its window', () => refuses(4096, 4097, Access.READ, 4096));
  it('refuses a negative offset', () => refuses(0, 8, Access.READ, -8));
  it('refuses an address that differs from its memory modulo 8', () => refuses(0x1004, 8, Access.READ));
  it('refuses to grant nothing, or what does not exist', () => {
    refuses(0, 8, 0);
    refuses(0, 8, 4);
    refuses(0, 8, 7);
  });

  it('takes the last bytes below 2^53 and nothing above them (S-103)', () => {
    const space = new AddressSpace();
    const mapping = space.map(ADDRESS_LIMIT - 4096, 4096, Access.READ_WRITE, window);
    expect(space.find(ADDRESS_LIMIT - 8, 8, Access.READ_WRITE)).toBe(mapping);
    expect(space.find(ADDRESS_LIMIT - 1, 1, Access.READ)).toBe(mapping);
    for (const length of [2, 3, 8, 4096]) {
      expect(mapping.covers(ADDRESS_LIMIT - 1, length, Access.READ), `${length} bytes`).toBe(false);
      expect(space.find(ADDRESS_LIMIT - 1, length, Access.READ)).toBeUndefined();
      expect(space.refusal(ADDRESS_LIMIT - 1, length)).toBe('unmapped');
    }
  });
});

describe('addresses from 2^53 up are not translatable (S-103)', () => {
  const window = new Window(new ArrayBuffer(64));
  const space = new AddressSpace();
  space.map(0, 64, Access.READ_WRITE, window);

  // Where a sum with a small length is rounded away, as for 2^64 - 1, too.
  it.each([2 ** 53, 2 ** 53 + 2, 2 ** 60, 2 ** 64, 0xffff_ffff * 2 ** 32 + 0xffff_ffff])('%d', (address) => {
    for (const length of [1, 8, 16, 32, 64, 4096, 2 ** 32]) {
      expect(space.at(address)).toBeUndefined();
      expect(space.find(address, length, Access.READ)).toBeUndefined();
      expect(space.refusal(address, length), `${length} bytes`).toBe('unmapped');
      expect(space.translate(address, length, Access.READ).next()).toEqual({ done: true, value: { address, why: 'unmapped' } });
    }
  });
});

describe('a mapping that was removed (S-102)', () => {
  it('reaches nothing, for whoever still holds it', () => {
    const window = new Window(new ArrayBuffer(4096));
    const space = new AddressSpace();
    const mapping = space.map(0x1000, 4096, Access.READ_WRITE, window);
    window.u8.fill(0x5a);
    space.unmap(0x1000, 4096);
    expect(mapping.covers(0x1000, 1, Access.READ)).toBe(false);
    expect(mapping.u8.byteLength + mapping.u32.byteLength + mapping.i32.byteLength + mapping.i64.byteLength).toBe(0);
    mapping.store8(0x1000, 1);
    mapping.store32(0x1000, 1);
    expect(() => mapping.decrementSignal(0x1000)).toThrow(RangeError);
    expect(() => mapping.storeSignal(0x1000, 0)).toThrow(RangeError);
    if (ACCESSES_STAY_IN_ORDER) mapping.publish64(0x1000, 1);
    else expect(() => mapping.publish64(0x1000, 1)).toThrow(RangeError);
    expect(mapping.load32(0x1000)).toBeUndefined();
    expect(window.u8.every((byte) => byte === 0x5a)).toBe(true);
  });

  it('is revoked by clear() too', () => {
    const space = new AddressSpace();
    const mapping = space.map(0, 8, Access.READ, new Window(new ArrayBuffer(8)));
    space.clear();
    expect(mapping.covers(0, 1, Access.READ)).toBe(false);
  });
});

describe('bus mastering off (S-47)', () => {
  const window = new Window(new ArrayBuffer(64));

  it('refuses every access, keeps what is mapped, and gives back exactly what was granted', () => {
    const space = new AddressSpace();
    const readable = space.map(0, 8, Access.READ, window);
    space.setBlocked(true);
    const late = space.map(8, 8, Access.READ_WRITE, window, 8);
    for (const mapping of [readable, late]) {
      expect(mapping.covers(mapping.start, 8, Access.READ)).toBe(false);
      expect(space.refusal(mapping.start, 8)).toBe('refused');
    }
    expect([...space.translate(0, 16, Access.READ)]).toEqual([]);
    space.setBlocked(false);
    expect(readable.covers(0, 8, Access.READ)).toBe(true);
    expect(readable.covers(0, 8, Access.WRITE)).toBe(false);
    expect(late.covers(8, 8, Access.READ_WRITE)).toBe(true);
  });

  it('holds for the space of every PASID, also one that is bound meanwhile', () => {
    const spaces = new AddressSpaces();
    spaces.own.map(0, 8, Access.READ, window);
    spaces.bind(7).map(0, 8, Access.READ, window);
    spaces.setBlocked(true);
    const late = spaces.bind(8);
    late.map(0, 8, Access.READ, window);
    for (const pasid of [NO_PASID, 7, 8]) expect(spaces.of(pasid)?.find(0, 8, Access.READ), `PASID ${pasid}`).toBeUndefined();
    spaces.setBlocked(false);
    for (const pasid of [NO_PASID, 7, 8]) expect(spaces.of(pasid)?.find(0, 8, Access.READ), `PASID ${pasid}`).toBeDefined();
  });
});

describe('AddressSpaces', () => {
  it('knows the own space and those that were bound, and no other (S-109)', () => {
    const spaces = new AddressSpaces();
    expect(spaces.of(NO_PASID)).toBe(spaces.own);
    expect(spaces.bind(NO_PASID)).toBe(spaces.own);
    expect(spaces.of(5)).toBeUndefined();
    const five = spaces.bind(5);
    expect(spaces.bind(5)).toBe(five);
    expect(spaces.of(5)).toBe(five);
    expect(five).not.toBe(spaces.own);
    const mapping = five.map(0, 8, Access.READ, new Window(new ArrayBuffer(8)));
    spaces.unbind(5);
    expect(spaces.of(5)).toBeUndefined();
    expect(mapping.covers(0, 1, Access.READ)).toBe(false);
  });

  it.each([-2, 2 ** 20, 1.5, Number.NaN])('refuses PASID %d', (pasid) => {
    expect(() => new AddressSpaces().bind(pasid)).toThrow(RangeError);
  });
});

/** 0 … n - 1 in an order that the seed decides. */
function shuffled(n: number, seed: number): number[] {
  const numbers = Array.from({ length: n }, (_, i) => i);
  let state = seed >>> 0;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
  }
  return numbers;
}
