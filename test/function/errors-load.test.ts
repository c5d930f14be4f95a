/** The condition table of ref §8.3 for contexts that cannot be loaded, admin targets and injected errors, row by row. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, CXT_L2_ENT, Reg } from '../../src/spec/index.js';
import { type Aftermath, CSB, notConsumed, queueWithFollowers, record, status } from './expect.js';
import { copy, descriptor, nop, start } from './ops.js';
import { type ContextPlace, LAYOUT, Rig } from './rig.js';

const { RUN, ERR_FN, STOP_FN, STOP_SW } = ContextState;

/** An address where nothing is mapped. */
const NOWHERE = 0x5000_0000;
const SOURCE = LAYOUT.data;
const TARGET = LAYOUT.data + 0x1_0000;

/** Context 1 says RUN in memory and has work; its doorbell rings for the first time. Something is broken before that. */
function breakLoad(harm: (rig: Rig, p: ContextPlace) => void, config = {}): Aftermath {
  const rig = new Rig(config, { pages: true });
  rig.activate();
  const p = rig.prepare(1, { state: RUN });
  const look = queueWithFollowers(rig, p, (csb) => copy(SOURCE, TARGET, 64, { csb }));
  harm(rig, p);
  rig.drain();
  return look();
}

describe('ref §8.3 contexts that cannot be loaded', () => {
  const unreachable: [string, number, number, (rig: Rig, p: ContextPlace) => void][] = [
    ['ref §8.3 row 1 L2 entry with vl = 0', 2, 3, (rig) => rig.putU64(rig.l2Entry(1), BigInt(LAYOUT.l1))],
    ['ref §8.3 row 1 L1 entry with vl = 0', 3, 3, (rig) => (rig.u8[rig.at(rig.l1Entry(1))] &= ~1)],
    [
      'ref §8.3 row 1 akey_sz above the limit of CAP1',
      3,
      3,
      (rig, p) => rig.prepare(1, { state: RUN, l1: { akey_sz: 9 } }) && rig.claim(p, 4),
    ],
    ['ref §8.3 row 2 CXT_L2 names an address that is not mapped', 2, 1, (rig) => rig.setReg(Reg.CXT_L2, NOWHERE)],
    ['ref §8.3 row 2 L2 table that cannot be read', 2, 2, (rig) => rig.protect(LAYOUT.l2, Access.WRITE)],
    ['ref §8.3 row 2 L1 table that is not mapped', 3, 1, (rig) => rig.unmap(LAYOUT.l1)],
    ['ref §8.3 row 2 L1 table that cannot be read', 3, 2, (rig) => rig.protect(LAYOUT.l1, Access.WRITE)],
    ['ref §8.3 row 2 CXT_CTL that is not mapped', 4, 1, (rig, p) => rig.unmap(p.control)],
    ['ref §8.3 row 2 CXT_CTL that cannot be read', 4, 2, (rig, p) => rig.protect(p.control, Access.WRITE)],
    ['ref §8.3 row 3 CXT_CTL with vl = 0', 4, 3, (rig, p) => (rig.u8[rig.at(p.control)] &= ~1)],
    ['ref §8.3 row 3 ring of 0 descriptors', 4, 3, (rig, p) => (rig.u32[rig.at(p.control + 8) / 4] = 0)],
    ['ref §8.3 row 3 ring of 1023 descriptors', 4, 3, (rig, p) => (rig.u32[rig.at(p.control + 8) / 4] = 1023)],
  ];
  it.each(unreachable)('%s: one record, nothing else is written', (_title, step, sub, harm) => {
    expect(breakLoad(harm)).toEqual(notConsumed({ step, sub, context: 1 }, RUN));
  });

  it('ref §8.3 row 1 akey_sz above the limit of CTL2', () => {
    const after = breakLoad((rig, p) => {
      rig.setReg(Reg.CTL2, 0x0000_0018_003f_000bn);
      rig.prepare(1, { state: RUN, l1: { akey_sz: 1 } });
      rig.claim(p, 4);
    });
    expect(after).toEqual(notConsumed({ step: 3, sub: 3, context: 1 }, RUN));
  });

  it('ref §8.3 row 3 ring larger than CAP0 allows', () => {
    const after = breakLoad((rig, p) => (rig.u32[rig.at(p.control + 8) / 4] = 2049), { maxRing: 1 });
    expect(after).toEqual(notConsumed({ step: 4, sub: 3, context: 1 }, RUN));
  });

  it.each([
    ['is not mapped', 1, (rig: Rig, p: ContextPlace) => rig.unmap(p.status)],
    ['can be neither read nor written', 2, (rig: Rig) => rig.memory.setBlocked(true)],
  ])('ref §8.3 row 4 CXT_STS that %s', (_title, sub, harm) => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.prepare(1, { state: RUN });
    const look = queueWithFollowers(rig, p, (csb) => copy(SOURCE, TARGET, 64, { csb }));
    if (sub === 1) {
      harm(rig, p);
      rig.drain();
      expect(look()).toEqual(notConsumed({ step: 5, sub, context: 1 }, RUN));
      return;
    }
    // Without bus mastering the L2 table is the first thing that fails (S-47), and the log cannot be written either.
    harm(rig, p);
    rig.drain();
    expect(look()).toEqual({ ...notConsumed({ step: 5, context: 1 }, RUN), records: [], errWrt: 0n, errSts: 9n });
  });

  it('ref §8.3 row 4 CXT_STS that can be written but not read becomes ERR_FN', () => {
    const after = breakLoad((rig, p) => rig.protect(p.status, Access.WRITE));
    expect(after).toEqual(notConsumed({ step: 5, sub: 2, context: 1 }));
  });

  it.each([0x3, 0x5, 0x7, 0x8, 0xe])('ref §8.3 row 4 CXT_STS with the illegal state %d becomes ERR_FN', (state) => {
    const after = breakLoad((rig, p) => rig.setState(p, state));
    expect(after).toEqual(notConsumed({ step: 5, sub: 3, context: 1 }));
  });

  it('ref §8.3 row 4 CXT_STS with an illegal state that cannot be written stays', () => {
    const after = breakLoad((rig, p) => {
      rig.setState(p, 3);
      rig.protect(p.status, Access.READ);
    });
    expect(after).toEqual(notConsumed({ step: 5, sub: 3, context: 1 }, 3));
  });

  it.each([
    ['is not mapped', 1, (rig: Rig, p: ContextPlace) => rig.unmap(p.writeIndex)],
    ['cannot be read', 2, (rig: Rig, p: ContextPlace) => rig.protect(p.writeIndex, Access.WRITE)],
  ])('ref §8.3 row 6 Write_Index %s', (_title, sub, harm) => {
    expect(breakLoad(harm)).toEqual(notConsumed({ step: 6, sub, context: 1 }));
  });

  it.each([
    ['below Read_Index', 10, 9],
    ['more than the ring ahead', 10, 10 + 1025],
  ])('ref §8.3 row 7 Write_Index %s', (_title, readIndex, writeIndex) => {
    const after = breakLoad((rig, p) => {
      rig.putU64(p.status + 8, readIndex);
      rig.putU64(p.writeIndex, writeIndex);
    });
    expect(after).toEqual({ ...notConsumed({ step: 6, sub: 3, context: 1 }), status: status(ERR_FN, readIndex) });
  });
});

describe('ref §8.3 targets of admin descriptors and injected errors', () => {
  it.each([
    ['L2 vl = 0', 2, 3, (rig: Rig) => rig.putFields(CXT_L2_ENT, rig.l2Entry(130), { vl: 0 })],
    ['L1 table not mapped', 3, 1, (rig: Rig) => rig.unmap(LAYOUT.l1Upper)],
    ['CXT_CTL unreadable', 4, 2, (rig: Rig, p: ContextPlace) => rig.protect(p.control, Access.WRITE)],
    ['CXT_CTL with a bad ring size', 4, 3, (rig: Rig, p: ContextPlace) => (rig.u32[rig.at(p.control + 8) / 4] = 7)],
    ['CXT_STS not mapped', 5, 1, (rig: Rig, p: ContextPlace) => rig.unmap(p.status)],
    ['CXT_STS not writable', 5, 2, (rig: Rig, p: ContextPlace) => rig.protect(p.status, Access.READ)],
    ['illegal state', 5, 3, (rig: Rig, p: ContextPlace) => rig.setState(p, 7)],
    ['ERR_FN with .NM', 5, 3, (rig: Rig, p: ContextPlace) => rig.setState(p, ERR_FN)],
  ])('ref §8.3 row 15 CXT_START of a context with %s: er, a record that names the target, context 0 goes on', (_title, step, sub, harm) => {
    const rig = new Rig({ maxContext: 200 }, { pages: true });
    const admin = rig.activate();
    const target = rig.prepare(130);
    harm(rig, target);
    const before = rig.hex(target.status, 16);
    const [csb, next] = [rig.csb(admin, 0), rig.csb(admin, 1)];
    rig.run(admin, start(130, 130, { csb }), nop({ csb: next }));
    expect(rig.records()).toEqual([record({ step, sub, re: 0, context: 130 })]);
    expect(rig.reg(Reg.ERR_WRT)).toBe(1n);
    expect(rig.interrupts).toEqual([0]);
    expect(rig.hex(csb, 32)).toBe(CSB.failed);
    expect(rig.hex(target.status, 16)).toBe(before);
    expect(rig.hex(admin.status, 16)).toBe(status(RUN, 2));
    expect(rig.hex(next, 32)).toBe(CSB.done);
  });

  it('ref §8.3 row 16 injected internal error of a context: nothing is consumed', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const other = rig.running(2);
    const look = queueWithFollowers(rig, p, (csb) => nop({ csb }));
    rig.fn.injectInternalError(1);
    rig.drain();
    expect(look()).toEqual(notConsumed({ step: 1, sub: 0, context: 1 }));
    expect(rig.state(other)).toBe(RUN);
  });

  it('ref §8.3 row 16 an internal error of a context that does not run is none', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.prepare(1);
    rig.fn.injectInternalError(1);
    rig.drain();
    expect(rig.records()).toEqual([]);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 0));
  });

  it('ref §8.3 row 17 injected internal error of the function: every context STOP_FN, GSV_ERROR', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.running(1);
    const q = rig.running(2);
    const look = queueWithFollowers(rig, p, (csb) => nop({ csb }));
    rig.fn.injectInternalError();
    rig.drain();
    const after = look();
    expect(after).toEqual({
      ...notConsumed({ step: 1, context: 1 }, STOP_FN),
      records: ['0101f70700200000'.padEnd(128, '0')],
      functionState: 5,
    });
    for (const context of [admin, q]) expect(rig.hex(context.status, 16)).toBe(status(STOP_FN, 0));
  });
});

describe('error records', () => {
  it.each([
    ['buffer translation failure', { step: 10, sub: 1, context: 3, index: 0x2a, operand: 1 }, '010af707171103002a00000000000000'],
    ['unknown operation', { step: 7, sub: 3, context: 5, index: 2n ** 32n + 1n }, '0107f707031305000100000001000000'],
    ['L1 entry invalid', { step: 3, sub: 3, context: 200 }, '0103f7070113c800'],
    ['RKey validation', { step: 12, sub: 3, context: 1, index: 7, operand: 0 }, '010cf707071301000700000000000000'],
    ['internal function error', { step: 1, re: 2 }, '0101f70700200000'],
  ])('ref §13.2 the records that these tests expect are built as published: %s', (_title, fields, hex) => {
    expect(record(fields)).toBe(hex.padEnd(128, '0'));
  });

  it('S-103 an index above 2^32 is recorded in full', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(5, { readIndex: 2 ** 32 + 1 });
    rig.run(p, descriptor(0x005, 0, {}));
    expect(rig.records()).toEqual(['0107f707031305000100000001000000'.padEnd(128, '0')]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 2 ** 32 + 2));
  });
});
