/** The order and the width of the function's writes: S-74, S-73, S-72, S-59. */
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB, status } from './expect.js';
import { Journal } from './journal.js';
import { adminInterrupt, atomic, copy, FLAG, interrupt, nop, repcopy, start, writeImmediate } from './ops.js';
import { type ContextPlace, type Encode, LAYOUT, Rig } from './rig.js';

// Several tests here watch `Atomics`, which x64 does without: the modules are loaded as on a weakly ordered machine.
const { arch } = vi.hoisted(() => {
  const { arch } = process;
  Object.defineProperty(process, 'arch', { value: 'arm64', configurable: true });
  vi.resetModules();
  return { arch };
});
Object.defineProperty(process, 'arch', { value: arch, configurable: true });
afterAll(() => vi.resetModules());

const { RUN, ERR_FN } = ContextState;

/** Watches everything that one descriptor of a context can change. */
function journal(rig: Rig, p: ContextPlace, csb: number): Journal {
  const slot = rig.slotWord(p, 0);
  return new Journal(rig)
    .watch('data', () => rig.hex(LAYOUT.data + 0x1_0000, 64))
    .watch('return data', () => rig.u64(LAYOUT.data + 0x2_0000))
    .watch('er', () => rig.completion(csb).er)
    .watch('signal', () => rig.completion(csb).signal)
    .watch('vl', () => rig.u32[slot] & 1)
    .watch('read_index', () => rig.readIndex(p))
    .watch('state', () => rig.state(p))
    .watch('record', () => rig.u8[rig.at(LAYOUT.errorLog)]) // vl of the record
    .watch('ERR_WRT', () => rig.reg(Reg.ERR_WRT))
    .watch('ERR_STS', () => rig.reg(Reg.ERR_STS));
}

function orderOf(encode: (csb: number) => Encode, harm: (rig: Rig, p: ContextPlace) => void = () => {}): string[] {
  const rig = new Rig();
  rig.activate();
  const p = rig.running(1);
  rig.bytes(LAYOUT.data, 4096).fill(0x55);
  rig.akey(p, 3, { vl: 1, iv: 1, intr_num: 3 });
  const csb = rig.csb(p);
  harm(rig, p);
  rig.queue(p, encode(csb));
  const watched = journal(rig, p, csb);
  rig.drain();
  return watched.end();
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('S-74 order of the writes of one descriptor', () => {
  const target = LAYOUT.data + 0x1_0000;
  it.each<[string, (csb: number) => Encode, string[]]>([
    ['NOP', (csb) => nop({ csb }), []],
    ['COPY', (csb) => copy(LAYOUT.data, target, 64, { csb }), ['data']],
    ['COPY of 4 KiB', (csb) => copy(LAYOUT.data, target, 4096, { csb }), ['data']],
    ['REPCOPY', (csb) => repcopy(LAYOUT.data, target, 64, { csb }), ['data']],
    ['WRT_IMM', (csb) => writeImmediate(target, [1, 2, 3], { csb }), ['data']],
    ['atomic', (csb) => atomic(0x02, 8, target, { csb, a: 1n }), ['data']],
    ['INTR', (csb) => interrupt(3, { csb }), ['interrupt 3']],
  ])('S-74 success of a %s: effect, signal, vl, read_index', (_name, encode, effects) => {
    expect(orderOf(encode)).toEqual([...effects, 'signal', 'vl', 'read_index']);
  });

  it('S-74 success of an atomic with return data: target, return data, signal, vl, read_index', () => {
    // The target and the return data are stored by two compare-and-swaps, which are watched directly.
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.putU64(LAYOUT.data + 0x1_0000, 7);
    rig.queue(p, atomic(0x02, 8, LAYOUT.data + 0x1_0000, { csb, a: 1n, returned: LAYOUT.data + 0x2_0000 }));
    const watched = journal(rig, p, csb);
    const exchange = Atomics.compareExchange;
    vi.spyOn(Atomics, 'compareExchange').mockImplementation(((array: Int32Array, index: number, old: number, value: number) => {
      watched.look();
      const seen = exchange(array, index, old, value);
      watched.look();
      return seen;
    }) as typeof Atomics.compareExchange);
    rig.drain();
    expect(watched.end()).toEqual(['data', 'return data', 'signal', 'vl', 'read_index']);
  });

  it('S-74 success without a completion block: data, vl, read_index', () => {
    const order = orderOf(() => copy(LAYOUT.data, target, 64));
    // The short way through the engine stores vl directly, so that data and vl are seen in one look.
    expect(order.join(' ')).toMatch(/^data[ +]vl read_index$/);
    expect(orderOf(() => repcopy(LAYOUT.data, target, 64))).toEqual(['data', 'vl', 'read_index']);
  });

  const failure = ['er', 'signal', 'vl', 'read_index', 'state', 'record', 'ERR_WRT', 'ERR_STS', 'interrupt 0'];

  it.each<[string, (csb: number) => Encode]>([
    ['a buffer', (csb) => copy(0, target, 64, { csb })],
    ['a key', (csb) => copy(LAYOUT.data, target, 64, { csb, akey0: 9 })],
    ['its header', (csb) => nop({ csb, flags: FLAG.CH })],
    ['an interrupt key', (csb) => interrupt(0, { csb })],
  ])('S-74 failure by %s: er, signal, vl, read_index, state, record, ERR_WRT, ERR_STS, interrupt', (_what, encode) => {
    expect(orderOf(encode)).toEqual(failure);
  });

  it('S-74 failure without a completion block', () => {
    expect(orderOf(() => copy(0, target, 64))).toEqual(failure.slice(2));
  });

  it('S-74 failure of the completion block itself', () => {
    expect(orderOf(() => copy(LAYOUT.data, target, 64, { csb: 0 }))).toEqual(['data', ...failure.slice(2)]);
  });

  it('S-74 failure with re = 0: the same without state', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const csb = rig.csb(admin);
    rig.queue(admin, start(9, 9, { csb }));
    const watched = journal(rig, admin, csb);
    rig.drain();
    expect(watched.end()).toEqual(failure.filter((name) => name !== 'state'));
  });

  it('S-74 a start writes the target state before its own signal, vl and read_index', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.prepare(1);
    const csb = rig.csb(admin);
    rig.queue(admin, start(1, 1, { csb }));
    const watched = journal(rig, admin, csb).watch('target', () => rig.state(p));
    rig.drain();
    expect(watched.end()).toEqual(['target', 'signal', 'vl', 'read_index']);
  });

  it('S-74 ADM_INTR sends its message before its own signal', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const csb = rig.csb(admin);
    rig.queue(admin, adminInterrupt(5, { csb }));
    const watched = journal(rig, admin, csb);
    rig.drain();
    expect(watched.end()).toEqual(['interrupt 5', 'signal', 'vl', 'read_index']);
  });

  it('O-11 er is visible before the signal, and the signal changes by exactly 1, once', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p, 0, 0xff);
    rig.queue(p, copy(0, 0, 8, { csb }));
    const watched = new Journal(rig);
    const seen: [bigint, boolean][] = [];
    watched.watch('block', () => {
      const { signal, er } = rig.completion(csb);
      seen.push([signal, er]);
      return rig.hex(csb, 32);
    });
    rig.drain();
    watched.end();
    const distinct = seen.filter(([signal, er], i) => i === 0 || signal !== seen[i - 1][0] || er !== seen[i - 1][1]);
    expect(distinct).toEqual([
      [0xffn, false],
      [0xffn, true],
      [0xfen, true],
    ]);
  });

  it('ref §8.5 the entry is there before ERR_WRT says so, its vl last', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(0, 0, 8));
    const watched = new Journal(rig)
      .watch('body', () => rig.hex(LAYOUT.errorLog + 4, 12))
      .watch('vl', () => rig.u8[rig.at(LAYOUT.errorLog)] & 1)
      .watch('ERR_WRT', () => rig.reg(Reg.ERR_WRT));
    rig.drain();
    const order = watched.end();
    expect(order.lastIndexOf('body')).toBeLessThan(order.indexOf('vl'));
    expect(order.slice(-3)).toEqual(['vl', 'ERR_WRT', 'interrupt 0']);
  });
});

describe('widths', () => {
  function storesOf(encode: (csb: number) => Encode) {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.queue(p, encode(csb));
    const watched = new Journal(rig);
    rig.drain();
    watched.end();
    const at = (address: number) => watched.stores.filter((s) => s.address >= address && s.address < address + 8).map((s) => s.method);
    return { stores: watched.stores, rig, p, csb, at };
  }

  it('S-73 er is one plain 4-byte store of 0x80000000 at byte 8; the signal is one atomic decrement', () => {
    const { stores, csb, at } = storesOf((c) => copy(0, 0, 8, { csb: c }));
    expect(stores.filter((s) => s.address >= csb + 8 && s.address < csb + 32)).toEqual([
      { method: 'store32', address: csb + 8, value: 0x8000_0000 },
    ]);
    expect(at(csb)).toEqual(['decrementSignal']);
  });

  it('S-73 success writes nothing in a completion block but the signal', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.bytes(csb + 8, 24).fill(0xab);
    rig.run(p, nop({ csb }));
    expect(rig.hex(csb, 32)).toBe('00'.repeat(8) + 'ab'.repeat(24));
  });

  it('S-73 two contexts that share a block cannot lose er: a success after a failure leaves it', () => {
    const rig = new Rig();
    rig.activate();
    const [p, q] = [rig.running(1), rig.running(2)];
    const csb = rig.csb(p, 0, 2);
    rig.run(p, copy(0, 0, 8, { csb }));
    rig.run(q, nop({ csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.failed);
  });

  it('S-72 vl is cleared by one 4-byte store to dword 0, read_index by one publishing store', () => {
    const { stores, rig, p } = storesOf((csb) => nop({ csb }));
    expect(stores.filter((s) => s.address >= p.ring && s.address < p.ring + 64)).toEqual([
      { method: 'store32', address: p.ring, value: 0x0001_0100 },
    ]);
    expect(stores.filter((s) => s.address >= p.status && s.address < p.status + 16)).toEqual([
      { method: 'publish64', address: p.status + 8, value: 1 },
    ]);
    expect(rig.u32[rig.slotWord(p, 0)]).toBe(0x0001_0100);
  });

  it('S-72 clearing vl leaves the rest of the slot as it was', () => {
    for (const block of [true, false]) {
      const rig = new Rig();
      rig.activate();
      const p = rig.running(1);
      const words = { 2: 0xffff_ff5a, 13: 0xdead_beef };
      rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 64, 8, { flags: FLAG.SE | FLAG.FE, words, csb: block ? rig.csb(p) : undefined }));
      const before = rig.bytes(p.ring, 64).slice();
      before[0] &= ~1;
      rig.drain();
      expect(rig.hex(p.ring, 64)).toBe(Buffer.from(before).toString('hex'));
    }
  });

  it('S-59 state is one single-byte store with the upper nibble 0; byte 1 and the other reserved bytes stay', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.prepare(1);
    rig.setState(p, 0xa0 | RUN);
    rig.bytes(p.status + 1, 7).fill(0xcd);
    rig.queue(p, copy(0, 0, 8));
    const watched = new Journal(rig);
    rig.drain();
    watched.end();
    expect(watched.stores.filter((s) => s.address >= p.status && s.address < p.status + 8)).toEqual([
      { method: 'store8', address: p.status, value: ERR_FN },
    ]);
    expect(rig.hex(p.status, 8)).toBe(`0f${'cd'.repeat(7)}`);
  });

  it('S-59 bits 7:4 of the state byte are ignored when it is read', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.prepare(1);
    rig.setState(p, 0xf0 | RUN);
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(1);
  });

  it('S-72 the body is read only after vl was seen: what a producer writes just before vl is what is executed', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.put(LAYOUT.data, [1, 2, 3, 4]);
    const word = rig.slotWord(p, 0);
    for (const block of [undefined, rig.csb(p)]) {
      const index = rig.readIndex(p);
      const at = word + 16 * index;
      rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x100, 4, { csb: block }));
      const load = Atomics.load;
      vi.spyOn(Atomics, 'load').mockImplementation(((array: Int32Array, i: number) => {
        const value = load(array, i);
        // The producer's store of the body, as late as it can be.
        if (array.buffer === rig.u32.buffer && i === at) rig.u32[at + 6] = LAYOUT.data + 0x200 + 16 * index;
        return value;
      }) as typeof Atomics.load);
      rig.drain();
      vi.restoreAllMocks();
      expect([...rig.bytes(LAYOUT.data + 0x200 + 16 * index, 4)]).toEqual([1, 2, 3, 4]);
    }
    expect([...rig.bytes(LAYOUT.data + 0x100, 4)]).toEqual([0, 0, 0, 0]);
  });

  it('S-72 Write_Index that carries over 2^32 between two reads is read again: no error, no lost descriptor', () => {
    const rig = new Rig();
    rig.activate();
    const start = 2 ** 32 - 1;
    const p = rig.running(1, { readIndex: start });
    rig.write(p, start, nop(), nop());
    rig.putU64(p.writeIndex, start);
    rig.fn.ringDoorbell(1, 0);
    const high = rig.at(p.writeIndex) / 4 + 1;
    const load = Atomics.load;
    let carried = false;
    vi.spyOn(Atomics, 'load').mockImplementation(((array: Uint32Array, i: number) => {
      const value = load(array, i);
      if (!carried && array.buffer === rig.u32.buffer && i === high) {
        carried = true;
        rig.putU64(p.writeIndex, start + 2); // high was 0 and is 1 now, low has wrapped
      }
      return value;
    }) as typeof Atomics.load);
    rig.drain();
    vi.restoreAllMocks();
    expect(carried).toBe(true);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, start + 2));
    expect(rig.records()).toEqual([]);
  });

  it('S-72 read_index over 2^32: the low half first, so that it is never too large', () => {
    const rig = new Rig();
    rig.activate();
    const start = 2 ** 32 - 1;
    const p = rig.running(1, { readIndex: start });
    rig.queue(p, nop());
    const seen: number[] = [];
    const store = Atomics.store;
    vi.spyOn(Atomics, 'store').mockImplementation(((array: Int32Array, i: number, value: number) => {
      const result = store(array, i, value);
      seen.push(rig.readIndex(p));
      return result;
    }) as typeof Atomics.store);
    rig.drain();
    vi.restoreAllMocks();
    expect(seen.every((index) => index <= start + 1)).toBe(true);
    expect(seen.at(-1)).toBe(start + 1);
  });
});
