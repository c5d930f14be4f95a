/** Saving a stopped function and restoring it elsewhere. Ref §10. */
import { describe, expect, it } from 'vitest';
import type { SdxiError } from '../../src/errors.js';
import { SdxiFunction } from '../../src/function/function.js';
import type { FunctionSnapshot } from '../../src/function/snapshot.js';
import { ContextState, CXT_CTL, CXT_L1_ENT, FunctionState, Reg } from '../../src/spec/index.js';
import { AtomicOp } from '../../src/spec/operations.js';
import { atomic, copy, start } from './ops.js';
import { type ContextPlace, LAYOUT, Rig } from './rig.js';

const { RUN, STOP_FN } = ContextState;

/** Another function over the same memory, as after a move: the rig goes on with it. */
function moved(rig: Rig, snapshot: FunctionSnapshot): Rig {
  const interrupts = { vectors: 66, raise: (vector: number) => rig.interrupts.push(vector) };
  const fn = new SdxiFunction({}, { memory: rig.memory, interrupts });
  fn.restore(JSON.parse(JSON.stringify(snapshot)));
  return Object.assign(Object.create(rig) as Rig, { fn });
}

function stop(rig: Rig, request: number): void {
  rig.setReg(Reg.CTL0, (rig.reg(Reg.CTL0) & ~3n) | BigInt(request));
  rig.drain();
  expect(rig.fn.state).toBe(FunctionState.STOP);
}

/** As software resumes (ref §10): ACTIVE, context 0 by a jump start, the others by CXT_START.RS. */
function resume(rig: Rig, admin: ContextPlace, others: ContextPlace[]): void {
  rig.setReg(Reg.CTL0, rig.reg(Reg.CTL0) | 3n);
  expect(rig.fn.state).toBe(FunctionState.ACTIVE);
  if (rig.state(admin) === STOP_FN) rig.setState(admin, RUN);
  const resumed = others.filter((p) => rig.state(p) === STOP_FN);
  rig.run(admin, ...resumed.map((p) => start(p.number, p.number, { resume: true })));
}

const COUNTERS = LAYOUT.data + 0x8_0000;

/** Each descriptor adds 1 to a counter of its own, so that one which runs twice is seen; some copy several slices. */
function loaded(): { rig: Rig; admin: ContextPlace; places: ContextPlace[]; each: number } {
  const rig = new Rig();
  const admin = rig.activate();
  const each = 12;
  const places = [1, 2].map((number) => rig.running(number));
  for (const [i, p] of places.entries()) {
    for (let n = 0; n < each; n++) {
      const counter = COUNTERS + 8 * (i * each + n);
      const add = atomic(AtomicOp.UADD, 8, counter, { a: 1n });
      rig.queue(p, add, copy(LAYOUT.data, LAYOUT.data + 0x10_0000 * (i + 1), 600_000));
    }
  }
  return { rig, admin, places, each };
}

describe('snapshot and restore (ref §10)', () => {
  it('ref §10 a soft stop after any turn, a snapshot, and another function: every descriptor completes exactly once', () => {
    for (let turns = 0; turns <= 100; turns += 3) {
      const { rig, admin, places, each } = loaded();
      for (let i = 0; i < turns; i++) rig.fn.step(1);
      stop(rig, 1);
      const other = moved(rig, rig.fn.snapshot());
      resume(other, admin, places);
      for (let n = 0; n < 2 * each; n++) expect(other.u64(COUNTERS + 8 * n)).toBe(1n);
      for (const p of places) expect([other.readIndex(p), other.state(p)]).toEqual([2 * each, RUN]);
      expect(other.records()).toEqual([]);
    }
  });

  it('ref §10 after a hard stop at most once, and Read_Index says which', () => {
    for (let turns = 0; turns <= 100; turns += 7) {
      const { rig, admin, places, each } = loaded();
      for (let i = 0; i < turns; i++) rig.fn.step(1);
      stop(rig, 2);
      const other = moved(rig, rig.fn.snapshot());
      const done = places.flatMap((p, i) =>
        Array.from({ length: each }, (_, n) => (2 * n < rig.readIndex(p) ? 1n : 0n) - rig.u64(COUNTERS + 8 * (i * each + n))),
      );
      expect(done.every((difference) => difference === 0n)).toBe(true);
      resume(other, admin, places);
      for (let n = 0; n < 2 * each; n++) expect(other.u64(COUNTERS + 8 * n)).toBe(1n);
    }
  });

  it('ref §10 every register is as it was, ERR_STS included; nothing is logged or raised by restoring', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.run(p, copy(0x7000_0000, LAYOUT.data, 8));
    rig.setReg(Reg.RKEY, BigInt(LAYOUT.rkeys | 1));
    rig.setReg(Reg.ERR_RD, 1n);
    stop(rig, 1);
    const offsets = Object.values(Reg);
    const before = offsets.map((offset) => rig.reg(offset));
    expect(rig.reg(Reg.ERR_STS)).toBe(1n);
    rig.interrupts.length = 0;
    const other = moved(rig, rig.fn.snapshot());
    expect(offsets.map((offset) => other.reg(offset))).toEqual(before);
    expect(rig.interrupts).toEqual([]);
  });

  it('only in GSV_STOP', () => {
    const rig = new Rig();
    const snapshot = rig.fn.snapshot();
    rig.activate();
    expect(() => rig.fn.snapshot()).toThrow(/not stopped cannot be saved/);
    expect(() => rig.fn.restore(snapshot)).toThrow(/not stopped cannot be restored/);
  });

  const harm: [string, (snapshot: FunctionSnapshot) => unknown, RegExp][] = [
    ['nothing', () => null, /no snapshot/],
    ['something else', () => ({ format: 'other' }), /no snapshot/],
    ['another version', (s) => ({ ...s, version: 3 }), /version 3/],
    ['a register missing', (s) => ({ ...s, registers: { CTL0: '0x0' } }), /registers\.GRP_ENUM/],
    ['a register too long', (s) => ({ ...s, registers: { ...s.registers, CTL2: `0x${'1'.repeat(17)}` } }), /registers\.CTL2/],
    ['one bit flipped', (s) => ({ ...s, registers: { ...s.registers, CXT_L2: '0x100000' } }), /checksum/],
  ];
  it.each(harm)('%s is refused, and nothing of it is taken over', (_name, change, message) => {
    const rig = new Rig();
    rig.setReg(Reg.CXT_L2, 0x5000n);
    const bad = change(rig.fn.snapshot()) as FunctionSnapshot;
    rig.setReg(Reg.CXT_L2, 0x6000n);
    expect(() => rig.fn.restore(bad)).toThrow(message);
    expect(rig.reg(Reg.CXT_L2)).toBe(0x6000n);
  });

  it('any byte that is not what it was is found', () => {
    const rig = new Rig();
    rig.setReg(Reg.CXT_L2, 0x5000n);
    const json = JSON.stringify(rig.fn.snapshot());
    rig.setReg(Reg.CXT_L2, 0x6000n);
    const before = rig.fn.snapshot();
    let refused = 0;
    for (let at = 0; at < json.length; at++) {
      const text = Buffer.from(json);
      text[at] ^= 1 << (at % 7);
      let parsed: FunctionSnapshot;
      try {
        parsed = JSON.parse(text.toString());
      } catch {
        continue; // no JSON any more
      }
      expect(() => rig.fn.restore(parsed)).toThrow(/snapshot/);
      refused++;
    }
    expect(refused).toBeGreaterThan(json.length / 2);
    expect(rig.fn.snapshot()).toEqual(before);
  });

  it('ref §4.11 copies of entries are not taken over: cache=sticky reads the tables of the snapshot', () => {
    const rig = new Rig({ cache: 'sticky' });
    const admin = rig.activate();
    const p = rig.running(1);
    stop(rig, 1);
    const snapshot = rig.fn.snapshot();
    // The same function comes back with the context's structures elsewhere.
    rig.putFields(CXT_CTL, p.control + 0x800, {
      vl: 1,
      ds_ring_ptr: p.ring,
      ds_ring_sz: 1024,
      cxt_sts_ptr: p.status,
      write_index_ptr: p.writeIndex + 64,
    });
    rig.putFields(CXT_L1_ENT, rig.l1Entry(1), { vl: 1, cxt_ctl_ptr: p.control + 0x800, akey_ptr: p.akeys, max_buffer: 11 });
    rig.putU64(p.writeIndex + 64, 1);
    rig.write(p, 0, copy(LAYOUT.data, LAYOUT.data + 64, 8, { csb: rig.csb(p) }));
    rig.fn.restore(snapshot);
    resume(rig, admin, [p]);
    expect([rig.readIndex(p), rig.completion(p.csbs).signal]).toEqual([1, 0n]);
  });

  it('a function with other capabilities is refused by the name of the register', () => {
    const error = (() => {
      try {
        new Rig({ maxContext: 7 }).fn.restore(new Rig().fn.snapshot());
      } catch (thrown) {
        return thrown as SdxiError;
      }
      return undefined;
    })();
    expect(error?.code).toBe('ERR_SDXI_STATE');
    expect(error?.message).toContain('CAP1');
  });
});
