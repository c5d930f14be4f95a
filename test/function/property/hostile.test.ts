/** Memory that was prepared by somebody who means harm, or does not know better. No byte outside what was granted, no throw, no hang. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SdxiFunction } from '../../../src/function/index.js';
import { Access, AddressSpaces } from '../../../src/memory/address-space.js';
import { Window } from '../../../src/memory/window.js';
import { ContextState, FunctionState, Reg } from '../../../src/spec/index.js';
import { record, status } from '../expect.js';
import { atomic, copy, nop, repcopy, start, stop, writeImmediate } from '../ops.js';
import { type ContextPlace, LAYOUT, Rig } from '../rig.js';

describe('structures that lie in each other', () => {
  it('one page that is level-2 table, level-1 table, CXT_CTL and ring at once', () => {
    const rig = new Rig();
    const page = LAYOUT.l2;
    // The first 64 bytes are read as L2 entry, L1 entry and CXT_CTL, and then as the descriptor of slot 0.
    rig.putU64(page, page | 1); // lv01_ptr, cxt_ctl_ptr, ds_ring_ptr, vl
    rig.putU64(page + 8, page); // akey_ptr; and 1,048,576 slots
    rig.putU64(page + 16, page + 0x100); // cxt_sts_ptr; max_buffer 1
    rig.putU64(page + 24, page + 0x200); // write_index_ptr
    rig.put(page + 0x100, [ContextState.RUN]);
    rig.putU64(page + 0x200, 1);
    const expected = rig.snapshot();
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.fn.ringDoorbell(0, 1);
    rig.drain();
    // Type 0x010 does not exist (step 7); the completion block at address 0 does not either (step 8).
    expected.set(Buffer.from(record({ step: 7, sub: 3, context: 0, index: 0 }), 'hex'), rig.at(LAYOUT.errorLog));
    expected.set(Buffer.from(record({ step: 8, sub: 1, context: 0, index: 0 }), 'hex'), rig.at(LAYOUT.errorLog) + 64);
    expected.set(Buffer.from(status(ContextState.ERR_FN, 1), 'hex'), rig.at(page + 0x100));
    expected[rig.at(page)] = 0;
    expect(Buffer.compare(rig.u8, expected)).toBe(0);
    // Consuming the descriptor has withdrawn the tables: the next doorbell fails at the first of them.
    rig.fn.ringDoorbell(0, 1);
    rig.drain();
    expect(rig.hex(LAYOUT.errorLog + 128, 64)).toBe(record({ step: 2, sub: 3, context: 0 }));
  });

  it('S-106 a completion block inside the destination: its write comes last', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = LAYOUT.data + 0x1040;
    rig.bytes(LAYOUT.data, 0x100).fill(0x11);
    const block = Buffer.alloc(32, 0x11);
    block.writeBigUInt64LE(0x1111_1111_1111_1110n);
    rig.run(p, copy(LAYOUT.data, LAYOUT.data + 0x1000, 0x100, { csb }));
    expect(rig.hex(csb, 32)).toBe(block.toString('hex'));
    // And it is a word like any other for the next operation.
    rig.run(p, atomic(2, 8, csb, { a: 2n, csb }));
    expect(rig.u64(csb)).toBe(0x1111_1111_1111_1111n);
  });

  it('a completion block that is the next slot of the ring: counting down changes its descriptor, and nothing worse', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    // Slot 1 begins with 0x0001_0101: NOP with vl. One less, and vl is gone.
    const first = rig.claim(p, 2);
    rig.write(p, first, nop({ csb: rig.slot(p, first + 1) }), nop());
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect([rig.readIndex(p), rig.state(p), rig.isValid(p, 1), rig.reg(Reg.ERR_WRT)]).toEqual([1, ContextState.RUN, false, 0n]);
    rig.u32[rig.slotWord(p, 1)] |= 1;
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect([rig.readIndex(p), rig.state(p)]).toEqual([2, ContextState.RUN]);
  });

  it('a ring inside the destination: what was written there is executed, slot after slot', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const prepared = { ...p, ring: LAYOUT.data };
    rig.write(prepared, 0, writeImmediate(LAYOUT.data + 0x1000, [1]), writeImmediate(LAYOUT.data + 0x1001, [2]), nop());
    rig.claim(p, 4);
    // Slot 0 writes slots 1 to 3, which were claimed and empty; and then itself, as far as 64 bytes go.
    rig.write(p, 0, copy(LAYOUT.data, rig.slot(p, 1), 192));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect([rig.readIndex(p), rig.state(p), ...rig.bytes(LAYOUT.data + 0x1000, 2)]).toEqual([4, ContextState.RUN, 1, 2]);

    rig.claim(p, 1);
    rig.write(p, 4, copy(LAYOUT.data, rig.slot(p, 4), 64));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    // It overwrote itself while it ran: consumed it is all the same, and not executed again.
    expect([rig.readIndex(p), rig.state(p), rig.isValid(p, 4)]).toEqual([5, ContextState.RUN, false]);
  });

  it('CXT_STS and Write_Index inside the destination: the function keeps its place', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.bytes(LAYOUT.data, 4096).fill(0);
    rig.run(p, nop(), copy(LAYOUT.data, p.status, 16), nop(), nop());
    expect(rig.readIndex(p)).toBe(4);
    // A Write_Index that falls behind is an error of the context (step 6), found when it is read again.
    rig.setState(p, ContextState.RUN);
    rig.queue(p, copy(LAYOUT.data, p.writeIndex, 8), nop());
    rig.drain();
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(ContextState.ERR_FN, rig.readIndex(p)));
    expect(rig.hex(LAYOUT.errorLog, 64)).toBe(record({ step: 6, sub: 3, context: 1 }));
  });

  it('two contexts on one ring and one Write_Index: each descriptor is executed by one of them', () => {
    const rig = new Rig();
    rig.activate();
    const one = rig.running(1);
    const two = rig.prepare(2, {
      state: ContextState.RUN,
      control: { ds_ring_ptr: BigInt(one.ring), write_index_ptr: BigInt(one.writeIndex) },
    });
    const count = 500;
    rig.claim(one, count);
    for (let i = 0; i < count; i++) rig.write(one, i, atomic(2, 8, LAYOUT.data, { a: 1n }));
    rig.fn.ringDoorbell(1, 0);
    rig.fn.ringDoorbell(2, 0);
    for (let i = 0; i < 3000; i++) rig.fn.step(1);
    expect(rig.u64(LAYOUT.data)).toBe(BigInt(count));
    expect(Math.max(rig.readIndex(one), rig.readIndex(two))).toBe(count);
    expect([rig.state(one), rig.state(two), rig.reg(Reg.ERR_WRT)]).toEqual([ContextState.RUN, ContextState.RUN, 0n]);
  });

  it('two contexts on one CXT_STS: no index beyond Write_Index, no descriptor twice', () => {
    const rig = new Rig();
    rig.activate();
    const one = rig.running(1);
    const two = rig.prepare(2, { control: { cxt_sts_ptr: BigInt(one.status) } });
    for (let round = 0; round < 20; round++) {
      for (const p of [one, two]) {
        rig.claim(p, 10);
        for (let i = 0; i < 10; i++) rig.write(p, round * 10 + i, atomic(2, 8, LAYOUT.data + 8 * p.number, { a: 1n }));
        rig.fn.ringDoorbell(p.number, 0);
        for (let i = 0; i < 7; i++) rig.fn.step(1);
        expect(rig.readIndex(one)).toBeLessThanOrEqual(round * 10 + 10);
      }
    }
    rig.drain();
    for (const p of [one, two]) expect(rig.u64(LAYOUT.data + 8 * p.number)).toBeLessThanOrEqual(200n);
  });
});

/** Context 1 in the middle of a copy of four slices or more, with a completion block. */
function midway({ bytes = 0x10_0000, ...options }: { pages?: boolean; bytes?: number } = {}): {
  rig: Rig;
  p: ContextPlace;
  csb: number;
  from: number;
  to: number;
  bytes: number;
} {
  const rig = new Rig({}, options);
  rig.activate();
  const p = rig.running(1);
  const [from, to] = [LAYOUT.data, LAYOUT.data + bytes];
  for (let i = 0; i < bytes; i++) rig.u8[rig.at(from) + i] = (i * 13) >>> 4;
  const csb = rig.csb(p);
  rig.queue(p, copy(from, to, bytes, { csb }), nop());
  rig.fn.step(1);
  rig.fn.step(1);
  return { rig, p, csb, from, to, bytes };
}

describe('between two slices of a copy', () => {
  it('ref §5.1 a producer that rewrites the slot changes nothing', () => {
    const { rig, p, csb, from, to, bytes } = midway();
    const word = rig.slotWord(p, 0);
    const header = rig.u32[word];
    const elsewhere = rig.csb(p, 9);
    rig.u32.fill(0xffff_ffff, word, word + 16);
    rig.write(p, 0, repcopy(from, to + bytes, 0x10_0000, { csb: elsewhere, flags: 0x10 }));
    rig.drain();
    expect(Buffer.compare(rig.bytes(from, bytes), rig.bytes(to, bytes))).toBe(0);
    expect(rig.bytes(to + bytes, 0x1000).every((byte) => byte === 0)).toBe(true);
    expect([rig.u64(csb), rig.u64(elsewhere), rig.readIndex(p), rig.reg(Reg.ERR_WRT)]).toEqual([0n, 1n, 2, 0n]);
    // vl is cleared by writing back the dword that was read.
    expect(rig.u32[word]).toBe((header & ~1) >>> 0);
  });

  it.each<[string, (m: ReturnType<typeof midway>) => number, { errors: string[]; signal: bigint; index: number; state: number }]>([
    // Nothing is consumed, so nothing is completed: after a restart it would be a second time.
    [
      'the ring',
      ({ p }) => p.ring,
      { errors: [record({ step: 7, sub: 1, context: 1, index: 0 })], signal: 1n, index: 0, state: ContextState.ERR_FN },
    ],
    // What was done stands (S-75).
    ['CXT_STS', ({ p }) => p.status, { errors: [record({ step: 5, sub: 1, context: 1 })], signal: 0n, index: 0, state: ContextState.RUN }],
    [
      'the completion block',
      ({ csb }) => csb,
      { errors: [record({ step: 8, sub: 1, context: 1, index: 0 })], signal: 1n, index: 1, state: ContextState.ERR_FN },
    ],
    [
      'the rest of the source',
      ({ from, bytes }) => from + bytes - 1,
      { errors: [record({ step: 10, sub: 1, context: 1, index: 0, operand: 0 })], signal: 0n, index: 1, state: ContextState.ERR_FN },
    ],
    [
      'the rest of the destination',
      ({ to, bytes }) => to + bytes - 1,
      { errors: [record({ step: 10, sub: 1, context: 1, index: 0, operand: 1 })], signal: 0n, index: 1, state: ContextState.ERR_FN },
    ],
    // Looked up when the copy began; the NOP behind it needs none.
    ['the AKey table', ({ p }) => p.akeys, { errors: [], signal: 0n, index: 2, state: ContextState.RUN }],
    // Only the descriptor behind the copy sees that.
    [
      'Write_Index',
      ({ p }) => p.writeIndex,
      { errors: [record({ step: 6, sub: 1, context: 1 })], signal: 0n, index: 1, state: ContextState.ERR_FN },
    ],
    // What a load has read serves until the context is idle (ref §4.11).
    ['CXT_CTL', ({ p }) => p.control, { errors: [], signal: 0n, index: 2, state: ContextState.RUN }],
  ])('S-102 %s is unmapped', (_name, what, { errors, signal, index, state }) => {
    const m = midway({ pages: true });
    const { rig, p, csb, from, to, bytes } = m;
    const guard = rig.snapshot();
    rig.unmap(what(m));
    rig.drain();
    const logged = Number(rig.reg(Reg.ERR_WRT));
    expect(Array.from({ length: logged }, (_, i) => rig.hex(LAYOUT.errorLog + 64 * i, 64))).toEqual(errors);
    expect([rig.u64(csb), rig.readIndex(p), rig.state(p)]).toEqual([signal, index, state]);
    // Nothing but destination, status, ring, block and log has changed.
    for (const [start, length] of [
      [to, bytes],
      [p.status, 16],
      [p.ring, 128],
      [csb, 32],
      [LAYOUT.errorLog, 64 * logged],
    ]) {
      guard.set(rig.bytes(start, length), rig.at(start));
    }
    expect(Buffer.compare(rig.u8, guard)).toBe(0);
    const whole = what(m) !== from + bytes - 1 && what(m) !== to + bytes - 1;
    const moved = whole ? bytes : bytes - 4096;
    expect(Buffer.compare(rig.bytes(from, moved), rig.bytes(to, moved))).toBe(0);
    if (!whole) expect(rig.bytes(to + moved, 4096).every((byte) => byte === 0)).toBe(true);
  });

  it('ref §5.6 CXT_STOP and at once CXT_START: the start waits for the stop, and that for the copy', () => {
    const { rig, p, csb } = midway({ bytes: 0x18_0000 });
    const admin = rig.place(0);
    const [stopped, started] = [rig.csb(admin, 0), rig.csb(admin, 1)];
    rig.queue(admin, stop(1, 1, { csb: stopped }), start(1, 1, { csb: started }));
    rig.stepUntil(() => rig.u64(stopped) === 0n, 10);
    rig.fn.step(1);
    expect([rig.u64(csb), rig.u64(started), rig.state(p), rig.readIndex(admin)]).toEqual([1n, 1n, ContextState.STOPG_SW, 1]);
    rig.drain();
    expect([rig.u64(csb), rig.u64(started), rig.state(p), rig.readIndex(p)]).toEqual([0n, 0n, ContextState.RUN, 2]);
  });

  it('a slot that vanishes and comes back is executed again, and completes once', () => {
    const { rig, p, csb } = midway({ pages: true });
    rig.unmap(p.ring);
    rig.drain();
    expect([rig.u64(csb), rig.state(p), rig.isValid(p, 0)]).toEqual([1n, ContextState.ERR_FN, true]);
    rig.map(p.ring);
    rig.setState(p, ContextState.RUN);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect([rig.u64(csb), rig.readIndex(p), rig.state(p)]).toEqual([0n, 2, ContextState.RUN]);
  });
});

describe('the address space of a PASID (S-12, ref §7.3)', () => {
  it('that a context leaves is never used for it again, though both have the same addresses', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.prepare(1, { state: ContextState.RUN, l1: { pv: 1, cxt_pasid: 5 } });
    // The same numbers in three spaces: PASID 5 lies over its own memory, PASID 6 over a copy of it.
    const twin = Window.of(new Uint8Array(LAYOUT.bytes));
    rig.map(LAYOUT.base, LAYOUT.bytes, { pasid: 5 });
    rig.memory.bind(6).map(LAYOUT.base, LAYOUT.bytes, Access.READ_WRITE, twin.window, twin.offset);
    rig.run(p, nop({ csb: rig.csb(p) }), copy(LAYOUT.data, LAYOUT.data + 64, 64));
    expect(rig.readIndex(p)).toBe(2);
    const other = Buffer.from(twin.window.u8.buffer, twin.window.u8.byteOffset + twin.offset, LAYOUT.bytes);
    rig.snapshot().copy(other);
    rig.prepare(1, { state: ContextState.RUN, readIndex: 2, l1: { pv: 1, cxt_pasid: 6 } });
    const before = rig.snapshot();
    const slot = rig.at(rig.slot(p, 2));
    const descriptor = new Uint32Array(16);
    descriptor[0] = writeImmediate(LAYOUT.data + 256, [7, 7, 7], { csb: p.csbs })(descriptor, 0);
    Buffer.from(descriptor.buffer).copy(other, slot);
    other.writeBigUInt64LE(3n, rig.at(p.writeIndex));
    rig.fn.ringDoorbell(1, 3);
    rig.drain();
    expect(Buffer.compare(rig.u8, before)).toBe(0);
    expect([other[rig.at(LAYOUT.data) + 256], other.readBigUInt64LE(rig.at(p.status) + 8), other[slot] & 1]).toEqual([7, 3n, 0]);
    expect(rig.state(admin)).toBe(ContextState.RUN);
  });
});

describe('memory in which every byte is random', () => {
  const BASE = 0x4000;
  const BYTES = 0x2_8000;
  const GUARD = 4096;
  const CONTEXTS = 8;
  /** NOP, WRT_IMM, COPY, REPCOPY, INTR, UADD, START, STOP, SYNC, all with vl. */
  const HEADERS = [
    0x0001_0101, 0x0001_0201, 0x0001_0301, 0x0001_0301, 0x0001_0401, 0x0004_0001, 0x0003_0201, 0x0002_0301, 0x0002_0401, 0x0002_0601,
  ];

  it('is worked on without a throw, and no byte outside what was granted changes', () => {
    const seeds = fc.record({
      seed: fc.integer(),
      events: fc.array(fc.record({ what: fc.nat(9), a: fc.nat(0xffff), b: fc.nat(0xffff) }), { minLength: 20, maxLength: 80, size: 'max' }),
    });
    let consumed = 0;
    fc.assert(
      fc.property(seeds, ({ seed, events }) => {
        const window = new Window(new ArrayBuffer(BYTES + 2 * GUARD));
        const { u8, u32 } = window;
        let state = seed | 1;
        const random = (): number => {
          state ^= state << 13;
          state ^= state >>> 17;
          state ^= state << 5;
          return state >>> 0;
        };
        const inside = (align: number): number => BASE + align * (random() % (BYTES / align));
        // Pointers, headers, small numbers, noise; nearly everything that is read as an address lies inside.
        for (let i = GUARD / 4; i < (GUARD + BYTES) / 4; i += 2) {
          const kind = i % 16 === 0 ? random() % 12 : random() % 8;
          u32[i] =
            kind < 4
              ? inside(64) | (random() & 1)
              : kind === 4
                ? random() % 2048
                : kind === 5
                  ? random()
                  : HEADERS[random() % HEADERS.length];
          u32[i + 1] = random() % 5 === 0 ? random() % 5000 : 0;
        }
        const memory = new AddressSpaces();
        const piece = 4096 * (1 + (random() % 4));
        for (let at = 0; at < BYTES; at += piece) {
          const access = random() % 9 === 0 ? 1 + (random() % 2) : 3;
          memory.own.map(BASE + at, Math.min(piece, BYTES - at), access as 1 | 2 | 3, window, GUARD + at);
        }
        const granted = (): boolean[] =>
          Array.from({ length: BYTES / 4096 }, (_, page) => ((memory.own.at(BASE + page * 4096)?.access ?? 0) & 2) !== 0);
        const fn = new SdxiFunction({}, { memory, interrupts: { vectors: 8, raise: () => {} } });
        // Tables by which contexts are found; where their parts lie, and on what, is chance.
        const put = (address: number, ...words: number[]) => u32.set(words, (GUARD + address - BASE) / 4);
        const [l2, l1] = [inside(4096), inside(4096)];
        const states: number[] = [];
        for (let n = 0; n < CONTEXTS; n++) {
          const [control, sts, end, akeys, index] = [inside(64), inside(16), inside(8), inside(4096), random() % 2000];
          put(l1 + 32 * n, control | 1, 0, akeys, 0, 0x00b0_0000, 0x18);
          put(control, inside(64) | 0x21, 0, 1024 + (random() % 500), 0, sts, 0, end, 0);
          put(akeys, 1, 0, 0, 0, 0x13, 0, 0, 0);
          put(sts, ContextState.RUN, 0, index, 0);
          put(end, index + (random() % 60), 0);
          states.push(GUARD + sts - BASE);
        }
        put(l2, l1 | 1, 0);
        const everything = Buffer.from(u8);
        const wasWritable = granted();
        const program = () => {
          fn.writeRegister(Reg.CXT_L2, 8, BigInt(l2));
          fn.writeRegister(Reg.ERR_CFG, 8, BigInt(inside(4096) | 3));
          fn.writeRegister(Reg.CTL0, 8, 3n);
        };
        program();
        for (const { what, a, b } of events) {
          if (what < 4) {
            // Software restarts what was stopped, and does not ask why.
            if (a & 0x100) u8[states[a % CONTEXTS]] = everything[states[a % CONTEXTS]] = ContextState.RUN;
            fn.ringDoorbell(a % (CONTEXTS + 1), b);
          } else if (what < 8) for (let i = 0; i < b % 40; i++) fn.step(1 + (a % 50));
          else if (what === 8) {
            const page = BASE + piece * (a % Math.ceil(BYTES / piece));
            const mapping = memory.own.at(page);
            if (mapping) memory.own.unmap(mapping.start, mapping.end - mapping.start);
          } else if (b % 8 === 0) fn.writeRegister(Reg.CTL0, 8, BigInt(a % 4));
          else if (b % 8 === 1) fn.reset();
          if (fn.state === FunctionState.STOP) program();
        }
        consumed += fn.counters.descriptors;
        for (let i = 0; i < u8.length; i++) {
          const page = Math.floor((i - GUARD) / 4096);
          if (i >= GUARD && i < GUARD + BYTES && wasWritable[page]) continue;
          if (u8[i] !== everything[i]) throw new Error(`byte ${i} was never granted`);
        }
      }),
      { numRuns: Number(process.env.SDXI_RUNS ?? 150) },
    );
    expect(consumed).toBeGreaterThan(100);
  });
});
