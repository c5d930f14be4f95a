/** Virtual functions: what the physical one can do with them. Ref §5.6, §10, S-55, S-96, S-113, S-115 to S-117. */
import { describe, expect, it } from 'vitest';
import type { ArgumentError } from '../../src/errors.js';
import { functionConfig } from '../../src/function/config.js';
import { ContextState, decodeRegister, FunctionState, MMIO_CAP0, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import {
  adminInterrupt,
  akeyUpdate,
  contextUpdate,
  copy,
  FILTER,
  functionUpdate,
  interrupt,
  nop,
  rkeyUpdate,
  start,
  stop,
  sync,
} from './ops.js';
import { type Encode, LAYOUT, Rig } from './rig.js';
import { type Family, family, activeFamily as ready } from './virtual.js';

const { RUN, STOP_SW, STOP_FN, ERR_FN } = ContextState;
const MIB = 0x10_0000;

/** Runs administrative operations of the PF to their end; the last one has the completion block. */
function command({ pf, drain }: Family, admin: ReturnType<Rig['activate']>, ...encodes: ((csb?: number) => Encode)[]): string {
  const csb = pf.csb(admin);
  pf.queue(admin, ...encodes.map((encode, i) => encode(i === encodes.length - 1 ? csb : undefined)));
  drain();
  return pf.hex(csb, 32);
}

const OPERATIONS: [name: string, encode: (vf: number, csb?: number) => Encode, context: number][] = [
  ['CXT_START.NM', (vf, csb) => start(3, 4, { vf, csb }), 3],
  ['CXT_START.RS', (vf, csb) => start(3, 3, { vf, csb, resume: true }), 3],
  ['CXT_STOP', (vf, csb) => stop(3, 4, { vf, csb }), 3],
  ['SYNC.CXT', (vf, csb) => sync(FILTER.CXT, 3, 4, { vf, csb }), 3],
  ['SYNC.STOP', (vf, csb) => sync(FILTER.STOP, 3, 4, { vf, csb }), 3],
  ['SYNC.AKEY', (vf, csb) => sync(FILTER.AKEY, 3, 4, { vf, csb }), 3],
  ['SYNC.RKEY', (vf, csb) => sync(FILTER.RKEY, 3, 4, { vf, csb }), 0],
  ['SYNC.FN', (vf, csb) => sync(FILTER.FN, 3, 4, { vf, csb }), 0],
  ['CXT_UPD', (vf, csb) => contextUpdate(3, 4, { vf, csb }), 3],
  ['AKEY_UPD', (vf, csb) => akeyUpdate(3, 4, [0, 1], { vf, csb }), 3],
  ['RKEY_UPD', (vf, csb) => rkeyUpdate([0, 1], { vf, csb }), 0],
  ['FN_UPD', (vf, csb) => functionUpdate({ vf, csb }), 0],
  ['ADM_INTR', (vf, csb) => adminInterrupt(2, { vf, csb }), 0],
];

describe('what a VF is (S-113)', () => {
  it('S-113 CAP0.vf and a handle of its own; all else as the PF', () => {
    const { pf, vfs } = family(3, { sfunc: 0x801, maxContext: 7, groupId: 9 });
    const shown = [pf, ...vfs].map((rig) => decodeRegister(MMIO_CAP0, rig.reg(Reg.CAP0)));
    expect(shown.map(({ vf, sfunc }) => [vf, sfunc])).toEqual([
      [0, 0x801],
      [1, 0x802],
      [1, 0x803],
      [1, 0x804],
    ]);
    for (const vf of vfs) {
      expect(vf.reg(Reg.CAP1)).toBe(pf.reg(Reg.CAP1));
      expect(vf.reg(Reg.CTL0) >> 32n).toBe(9n);
      expect(vf.fn.virtualFunctions).toEqual([]);
    }
    expect(new Rig().fn.virtualFunctions).toEqual([]);
  });

  it('S-113 no more VFs than there are handles; none without memory of its own', () => {
    const error = (action: () => unknown) => {
      try {
        action();
      } catch (thrown) {
        return thrown as ArgumentError;
      }
      throw new Error('nothing was thrown');
    };
    expect(functionConfig({ sfunc: 0xffff - 4, vfs: 4 }).vfs).toBe(4);
    expect(error(() => functionConfig({ sfunc: 0xffff - 3, vfs: 4 }))).toMatchObject({ code: 'ERR_SDXI_ARGUMENT' });
    expect(error(() => functionConfig({ vfs: 256 })).hint).toBe('vfs is a whole number from 0 to 255');
    expect(error(() => new Rig({ vfs: 1 })).message).toContain('virtual function 1');
  });

  it('S-113 a VF runs whatever the PF does, and the PF whatever its VFs do', () => {
    const { pf, vfs, drain } = family(1);
    const [vf] = vfs;
    vf.activate();
    const p = vf.running(1);
    expect(pf.fn.state).toBe(FunctionState.STOP);
    vf.queue(p, nop());
    drain();
    expect(vf.readIndex(p)).toBe(1);
    const admin = pf.activate();
    vf.setReg(Reg.CTL0, 1);
    drain();
    pf.run(admin, nop());
    expect([pf.readIndex(admin), vf.fn.state, pf.fn.state]).toEqual([1, FunctionState.STOP, FunctionState.ACTIVE]);
  });

  it.each(OPERATIONS)('S-96 %s with vf = 1 is malformed for a VF, and for vf_num 0 or beyond the last', (_name, encode) => {
    for (const [who, number] of [
      ['vf', 1],
      ['pf', 0],
      ['pf', 3],
      ['pf', 0xffff],
    ] as const) {
      const { pf, vfs, admin, admins, drain } = ready();
      const [rig, p] = who === 'pf' ? [pf, admin] : [vfs[0], admins[0]];
      const csb = rig.csb(p);
      rig.queue(p, encode(number, csb));
      drain();
      expect(rig.hex(csb, 32)).toBe(CSB.failed);
      expect(rig.records()).toEqual([record({ step: 7, sub: 3, context: 0, index: 0 })]);
      expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
    }
  });
});

describe('administrative operations of the PF on a VF (S-55)', () => {
  it('S-55 CXT_START and CXT_STOP act on the tables of the VF, and on no other function', () => {
    const all = ready();
    const { pf, vfs, admin } = all;
    const places = [pf, ...vfs].map((rig) => rig.prepare(1));
    vfs[1].claim(places[2], 1);
    vfs[1].write(places[2], 0, nop());
    expect(command(all, admin, (csb) => start(1, 1, { vf: 2, csb }))).toBe(CSB.done);
    // After the start Write_Index was looked at.
    expect([pf, ...vfs].map((rig, i) => rig.hex(places[i].status, 16))).toEqual([status(STOP_SW, 0), status(STOP_SW, 0), status(RUN, 1)]);
    const stopped = command(
      all,
      admin,
      () => stop(1, 1, { vf: 2 }),
      (csb) => sync(FILTER.STOP, 1, 1, { vf: 2, csb }),
    );
    expect(stopped).toBe(CSB.done);
    expect(vfs[1].state(places[2])).toBe(STOP_SW);
    expect([pf, ...vfs].flatMap((rig) => rig.records())).toEqual([]);
  });

  it('ref §13.1 G17 stops contexts 3 and 4 of VF 9, hard: what was in flight is consumed and never completed', () => {
    const all = ready(9);
    const vf = all.vfs[8];
    const places = [3, 4].map((number) => vf.running(number));
    const work = vf.csb(places[0]);
    vf.queue(places[0], copy(LAYOUT.data, LAYOUT.data + MIB, MIB, { csb: work }));
    vf.fn.step(1);
    const golden = Buffer.from(`0404020000a0090003000400${'00'.repeat(44)}01`.padEnd(128, '0'), 'hex');
    all.pf.queue(all.admin, (u32, word) => {
      new Uint8Array(u32.buffer, u32.byteOffset + 4 * word, 64).set(golden);
      return u32[word] | 1;
    });
    all.drain();
    expect(places.map((p) => vf.hex(p.status, 16))).toEqual([status(STOP_SW, 1), status(STOP_SW, 0)]);
    expect(vf.hex(work, 32)).toBe(CSB.armed);
    expect(all.pf.hex(all.admin.status, 16)).toBe(status(RUN, 1));
  });

  it('S-55 db_value rings doorbells of the VF', () => {
    const all = ready();
    all.vfs[0].prepare(1);
    command(all, all.admin, (csb) => start(1, 1, { vf: 1, csb, doorbell: 5n }));
    expect([all.pf, ...all.vfs].map(({ fn }) => fn.contexts().map(({ number }) => number))).toEqual([[0], [0, 1], [0]]);
  });

  it.each(OPERATIONS)('S-55, S-115 %s of a VF that is not ACTIVE: er = 1, re 0, context 0 goes on', (_name, encode, context) => {
    const all = family(2);
    const admin = all.pf.activate();
    all.vfs[1].activate();
    expect(command(all, admin, (csb) => encode(1, csb))).toBe(CSB.failed);
    expect(all.pf.records()).toEqual([record({ step: 2, sub: 3, re: 0, context })]);
    expect(all.pf.hex(admin.status, 16)).toBe(status(RUN, 1));
    expect(all.vfs.flatMap((vf) => [...vf.records(), ...vf.interrupts])).toEqual([]);
  });

  it('S-115 what the body says is looked at first: a malformed range, and a vector that the VF does not have', () => {
    for (const encode of [stop(4, 3, { vf: 1 }), adminInterrupt(66, { vf: 1 })]) {
      const { pf, drain } = family(1);
      const admin = pf.activate();
      pf.queue(admin, encode);
      drain();
      expect(pf.records()).toEqual([record({ step: 7, sub: 3, context: 0, index: 0 })]);
    }
  });

  it('S-94, S-115 ADM_INTR raises a vector of the VF, judged by the size of its table', () => {
    const rig = new Rig({}, { vectors: 3 });
    const pf = new Rig({ vfs: 1 }, { virtual: () => ({ memory: rig.memory, interrupts: rig.port }) });
    Object.assign(rig, { fn: pf.fn.virtualFunctions[0] });
    rig.activate();
    const admin = pf.activate();
    pf.run(admin, adminInterrupt(2, { vf: 1 }), adminInterrupt(5));
    expect([rig.interrupts, pf.interrupts]).toEqual([[2], [5]]);
    pf.run(admin, adminInterrupt(3, { vf: 1 }));
    expect(pf.records()).toEqual([record({ step: 7, sub: 3, context: 0, index: 2 })]);
    expect(rig.interrupts).toEqual([2]);
  });

  it('S-116 an unusable target is logged by the PF, what its context runs into afterwards by the VF', () => {
    const all = ready();
    const [vf] = all.vfs;
    expect(command(all, all.admin, (csb) => start(1, 1, { vf: 1, csb }))).toBe(CSB.failed);
    expect(all.pf.records()).toEqual([record({ step: 3, sub: 3, re: 0, context: 1 })]);
    const p = vf.prepare(2);
    vf.putU64(p.writeIndex, 5000);
    expect(command(all, all.admin, (csb) => start(2, 2, { vf: 1, csb }))).toBe(CSB.done);
    expect(vf.records()).toEqual([record({ step: 6, sub: 3, context: 2 })]);
    expect(all.pf.records()).toHaveLength(1);
  });

  it('S-117 context 0 of a VF is a target like any other', () => {
    const all = ready(1);
    const [vf] = all.vfs;
    const [p] = all.admins;
    const other = vf.running(1);
    const stopped = command(
      all,
      all.admin,
      () => stop(0, 1, { vf: 1 }),
      (csb) => sync(FILTER.STOP, 0, 1, { vf: 1, csb }),
    );
    expect([stopped, vf.state(p), vf.state(other), all.pf.state(all.admin)]).toEqual([CSB.done, STOP_SW, STOP_SW, RUN]);
    expect(command(all, all.admin, (csb) => start(0, 0, { vf: 1, csb }))).toBe(CSB.done);
    expect([vf.state(p), vf.state(other)]).toEqual([RUN, STOP_SW]);
  });

  it('S-55, ref §5.6 SYNC.STOP of a VF waits for its contexts; meanwhile a step of the PF has nothing to do', () => {
    const { pf, vfs, admin, drain } = ready(1);
    const [vf] = vfs;
    const p = vf.running(1);
    vf.queue(p, copy(LAYOUT.data, LAYOUT.data + MIB, MIB));
    vf.fn.step(1);
    const csb = pf.csb(admin);
    pf.queue(admin, stop(1, 1, { vf: 1 }), sync(FILTER.STOP, 1, 1, { vf: 1, csb }), nop());
    pf.drain();
    expect([pf.hex(csb, 32), pf.readIndex(admin), pf.fn.step(64)]).toEqual([CSB.armed, 1, 0]);
    drain();
    expect([pf.hex(csb, 32), pf.readIndex(admin), vf.hex(p.status, 16)]).toEqual([CSB.done, 3, status(STOP_SW, 1)]);
  });

  it('S-115 a VF that leaves ACTIVE: SYNC completes, a CXT_START that waits for a stop fails', () => {
    for (const [reset, encode, expected] of [
      [false, (csb: number) => sync(FILTER.STOP, 1, 1, { vf: 1, csb }), CSB.done],
      [true, (csb: number) => sync(FILTER.STOP, 1, 1, { vf: 1, csb }), CSB.done],
      [true, (csb: number) => sync(FILTER.CXT, 1, 1, { vf: 1, csb }), CSB.done],
      [true, (csb: number) => start(1, 1, { vf: 1, csb }), CSB.failed],
    ] as const) {
      const { pf, vfs, admin, drain } = ready(1);
      const [vf] = vfs;
      const p = vf.running(1);
      vf.queue(p, copy(LAYOUT.data, LAYOUT.data + MIB, MIB));
      vf.fn.step(1);
      const csb = pf.csb(admin);
      pf.queue(admin, stop(1, 1, { vf: 1 }), encode(csb));
      pf.drain();
      expect(pf.hex(csb, 32)).toBe(CSB.armed);
      if (reset) vf.fn.reset();
      else vf.setReg(Reg.CTL0, 1);
      drain();
      expect(pf.hex(csb, 32)).toBe(expected);
      expect(pf.records()).toEqual(expected === CSB.done ? [] : [record({ step: 2, sub: 3, re: 0, context: 1 })]);
      expect(pf.hex(admin.status, 16)).toBe(status(RUN, 2));
    }
  });

  it('S-85, S-114 the PF stops while its context 0 waits for a VF: given up unconsumed, and the VF goes on', () => {
    for (const request of [1, 2]) {
      const { pf, vfs, admin, drain } = ready(1);
      const [vf] = vfs;
      const p = vf.running(1);
      vf.queue(p, copy(LAYOUT.data, LAYOUT.data + MIB, MIB));
      vf.fn.step(1);
      const csb = pf.csb(admin);
      pf.queue(admin, stop(1, 1, { vf: 1 }), sync(FILTER.STOP, 1, 1, { vf: 1, csb }));
      pf.drain();
      pf.setReg(Reg.CTL0, request);
      pf.drain();
      expect([pf.fn.state, pf.state(admin), vf.fn.state]).toEqual([FunctionState.STOP, STOP_FN, FunctionState.ACTIVE]);
      if (request === 1) expect([pf.isValid(admin, 1), pf.readIndex(admin)]).toEqual([true, 1]);
      drain();
      expect(vf.hex(p.status, 16)).toBe(status(STOP_SW, 1));
      pf.setReg(Reg.CTL0, 3);
      pf.setState(admin, RUN);
      pf.fn.ringDoorbell(0, 0);
      drain();
      expect(pf.readIndex(admin)).toBe(2);
    }
  });

  it.each(['none', 'start', 'sticky'] as const)('S-55 cache=%s: updates drop copies of the VF that they name, and of no other', (cache) => {
    const all = ready(2, { cache });
    const { vfs, admin, drain } = all;
    const places = vfs.map((vf) => vf.running(1));
    const use = () => {
      for (const [i, vf] of vfs.entries()) vf.queue(places[i], interrupt(1));
      drain();
    };
    for (const [i, vf] of vfs.entries()) vf.akey(places[i], 1, { vl: 1, iv: 1, intr_num: 1 });
    use();
    for (const [i, vf] of vfs.entries()) vf.akey(places[i], 1, { vl: 1, iv: 1, intr_num: 2 });
    // Both run without a pause, or `start` would read its keys again.
    for (const [i, vf] of vfs.entries()) vf.queue(places[i], copy(LAYOUT.data, LAYOUT.data + MIB, MIB), interrupt(1));
    for (const vf of vfs) vf.fn.step(1);
    command(all, admin, (csb) => akeyUpdate(1, 1, [1, 1], { vf: 1, csb }));
    const old = cache === 'sticky' ? 1 : 2;
    expect(vfs.map(({ interrupts }) => interrupts)).toEqual([
      [1, 2],
      [1, old],
    ]);
  });
});
