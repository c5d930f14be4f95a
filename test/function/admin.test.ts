/** The administrative group (ref §5.6): malformed descriptors, starts over ranges, stops. */
import { describe, expect, it } from 'vitest';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB, failed, provoke, record, status } from './expect.js';
import {
  adminInterrupt,
  akeyUpdate,
  contextUpdate,
  copy,
  descriptor,
  FILTER,
  functionUpdate,
  nop,
  rkeyUpdate,
  start,
  stop,
  sync,
} from './ops.js';
import { type Encode, LAYOUT, Rig, type RigOptions } from './rig.js';

const { STOP_SW, RUN, STOPG_SW, STOP_FN, ERR_FN } = ContextState;
const MIB = 0x10_0000;
const longCopy = (csb?: number) => copy(LAYOUT.data, LAYOUT.data + MIB, MIB, { csb });

function ready(config = {}, options: RigOptions = {}) {
  const rig = new Rig(config, options);
  return { rig, admin: rig.activate() };
}

/** Context 1 in the middle of a copy of four slices. */
function copying() {
  const { rig, admin } = ready();
  const p = rig.running(1);
  const work = rig.csb(p);
  rig.queue(p, longCopy(work), nop());
  rig.fn.step(1);
  return { rig, admin, p, work };
}

describe('malformed admin descriptors: step 7 / sub 3 of context 0', () => {
  it.each<[string, Encode]>([
    ['S-27 CXT_START.NM with start > end', start(3, 2)],
    ['S-27 CXT_START.RS with start > end', start(3, 2, { resume: true })],
    ['S-27 CXT_STOP with start > end', stop(3, 2)],
    ['S-27 CXT_UPD with start > end', contextUpdate(3, 2)],
    ['S-27 AKEY_UPD with contexts start > end', akeyUpdate(3, 2, [0, 0])],
    ['S-27 AKEY_UPD with keys start > end', akeyUpdate(1, 1, [5, 4])],
    ['S-27 RKEY_UPD with keys start > end', rkeyUpdate([5, 4])],
    ['S-27 SYNC.CXT with start > end', sync(FILTER.CXT, 3, 2)],
    ['S-27 SYNC.STOP with start > end', sync(FILTER.STOP, 3, 2)],
    ['S-27 SYNC.AKEY with contexts start > end', sync(FILTER.AKEY, 3, 2)],
    ['S-27 SYNC.AKEY with keys start > end', sync(FILTER.AKEY, 1, 1, { keys: [5, 4] })],
    ['S-27 SYNC.RKEY with keys start > end', sync(FILTER.RKEY, 0, 0, { keys: [5, 4] })],
    ['ref §5.6 SYNC with filter 5', sync(5)],
    ['ref §5.6 SYNC with filter 6', sync(6)],
    ['ref §5.6 SYNC with filter 7', sync(7)],
    ['S-96 CXT_START with vf = 1 on a function without VFs', start(1, 1, { vf: 1 })],
    ['S-96 CXT_STOP with vf = 1', stop(1, 1, { vf: 1 })],
    ['S-96 SYNC with vf = 1 and vf_num 0', sync(FILTER.CXT, 0, 0, { vf: 0 })],
    ['S-96 CXT_UPD with vf = 1', contextUpdate(1, 1, { vf: 1 })],
    ['S-96 AKEY_UPD with vf = 1', akeyUpdate(1, 1, [0, 0], { vf: 1 })],
    ['S-96 RKEY_UPD with vf = 1', rkeyUpdate([0, 0], { vf: 1 })],
    ['S-96 FN_UPD with vf = 1', functionUpdate({ vf: 1 })],
    ['S-96 ADM_INTR with vf = 1', adminInterrupt(1, { vf: 1 })],
    ['S-19 admin subtype 0x09 does not exist', descriptor(0x002, 0x09, {})],
  ])('%s', (_title, encode) => {
    const { rig, admin } = ready();
    const p = rig.running(1);
    const after = provoke(rig, admin, (csb) => (u32, word) => {
      const header = encode(u32, word);
      u32[word + 14] = csb;
      return header;
    });
    expect(after).toEqual(failed({ step: 7, sub: 3, context: 0, index: 0 }));
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
  });

  it('S-27 keys are not looked at where the operation has none', () => {
    const { rig, admin } = ready();
    const encodes = [start(1, 1, { keys: [5, 4] }), stop(1, 1, { keys: [5, 4] }), contextUpdate(1, 1, { keys: [5, 4] })];
    encodes.push(
      sync(FILTER.CXT, 0, 0, { keys: [5, 4] }),
      sync(FILTER.FN, 3, 2, { keys: [5, 4] }),
      functionUpdate({ keys: [5, 4], contexts: [3, 2] }),
    );
    encodes.push(rkeyUpdate([4, 5], { contexts: [3, 2] }), sync(FILTER.RKEY, 3, 2, { keys: [4, 5] }));
    rig.prepare(1);
    rig.run(admin, ...encodes);
    expect(rig.hex(admin.status, 16)).toBe(status(RUN, encodes.length));
    expect(rig.records()).toEqual([]);
  });

  it('ref §5.6 vf_num without vf, and fe = 0, are no errors', () => {
    const { rig, admin } = ready();
    const p = rig.prepare(1);
    const csb = rig.csb(admin);
    rig.run(admin, start(1, 1, { csb, flags: 0, words: { 1: 0x0009_0000 } }));
    expect([rig.hex(csb, 32), rig.state(p)]).toEqual([CSB.done, RUN]);
  });
});

describe('CXT_START over ranges', () => {
  it('S-83 contexts in ascending order, each on its own; nothing that is merely absent is an error', () => {
    const { rig, admin } = ready({ maxContext: 6 });
    const places = [1, 2, 4, 6].map((n) => rig.prepare(n));
    rig.u8[rig.at(places[1].control)] &= ~1; // 2: CXT_CTL with vl = 0; 3 and 5: L1 with vl = 0; 7 … 400: above max_cxt
    const csb = rig.csb(admin);
    rig.run(admin, start(1, 400, { csb }));
    expect(places.map((p) => rig.state(p))).toEqual([RUN, STOP_SW, RUN, RUN]);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.records()).toEqual([]);
  });

  it('S-83 contexts of a whole level-2 entry with vl = 0 are skipped silently', () => {
    const { rig, admin } = ready({ maxContext: 300 });
    const p = rig.prepare(1);
    const csb = rig.csb(admin);
    rig.run(admin, start(1, 300, { csb }));
    expect([rig.state(p), rig.hex(csb, 32), rig.records()]).toEqual([RUN, CSB.done, []]);
  });

  it('S-83 other failures: the rest is started, then er and one record for the first of them', () => {
    const { rig, admin } = ready({}, { pages: true });
    const places = [1, 2, 3, 4, 5, 6, 7].map((n) => rig.prepare(n));
    rig.unmap(places[1].control); // 2: not readable, the first failure
    rig.setState(places[3], ERR_FN); // 4
    rig.setState(places[4], 7); // 5: illegal
    rig.prepare(6, { ringEntries: 5 }); // 6: bad ring size
    const [csb, next] = [rig.csb(admin, 0), rig.csb(admin, 1)];
    rig.run(admin, start(1, 7, { csb }), nop({ csb: next }));
    expect([places[0], places[2], places[6]].map((p) => rig.state(p))).toEqual([RUN, RUN, RUN]);
    expect([places[3], places[4], places[5]].map((p) => rig.state(p))).toEqual([ERR_FN, 7, STOP_SW]);
    expect(rig.records()).toEqual([record({ step: 4, sub: 1, re: 0, context: 2 })]);
    expect([rig.hex(csb, 32), rig.hex(next, 32)]).toEqual([CSB.failed, CSB.done]);
    expect(rig.state(admin)).toBe(RUN);
  });

  it('S-83 .NM on ERR_FN in a range logs step 5 / sub 3, re 0; .RS starts it', () => {
    for (const resume of [false, true]) {
      const { rig, admin } = ready();
      const places = [1, 2].map((n) => rig.prepare(n));
      rig.setState(places[0], ERR_FN);
      const csb = rig.csb(admin);
      rig.run(admin, start(1, 2, { csb, resume }));
      expect(places.map((p) => rig.state(p))).toEqual([resume ? RUN : ERR_FN, RUN]);
      expect(rig.records()).toEqual(resume ? [] : [record({ step: 5, sub: 3, re: 0, context: 1 })]);
    }
  });

  it('S-83 a large range does not hold others up: they get turns in between', () => {
    const { rig, admin } = ready({ maxContext: 0xffff });
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.queue(admin, start(2, 0xffff, { csb: rig.csb(admin) }));
    rig.fn.step(1);
    rig.queue(p, nop({ csb }));
    rig.fn.step(4);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.readIndex(admin)).toBe(0);
    rig.drain();
    expect(rig.hex(admin.status, 16)).toBe(status(RUN, 1));
    expect(rig.fn.contexts().length).toBeLessThan(10); // nothing is kept of numbers that are not there
  });

  it('S-27 a target that cannot be used and a completion block that cannot be reached: both are recorded', () => {
    const { rig, admin } = ready();
    rig.run(admin, start(9, 9, { csb: 0x7000_0000 }));
    expect(rig.records()).toEqual([record({ step: 3, sub: 3, re: 0, context: 9 }), record({ step: 8, sub: 1, context: 0, index: 0 })]);
    expect(rig.hex(admin.status, 16)).toBe(status(ERR_FN, 1));
  });

  it('S-84 a bad Write_Index or ring found right after CXT_START is an error of the target; the start has succeeded', () => {
    const { rig, admin } = ready({}, { pages: true });
    const [p, q] = [rig.prepare(1), rig.prepare(2)];
    rig.putU64(p.writeIndex, 1025);
    rig.claim(q, 1);
    rig.unmap(q.ring);
    const csb = rig.csb(admin);
    rig.run(admin, start(1, 2, { csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.records()).toEqual([record({ step: 6, sub: 3, context: 1 }), record({ step: 7, sub: 1, context: 2, index: 0 })]);
    expect([rig.state(p), rig.state(q), rig.state(admin)]).toEqual([ERR_FN, ERR_FN, RUN]);
  });

  it('S-52 a number above the effective max_cxt: alone step 2 / sub 3, re 0, er; in a range skipped; CXT_STOP succeeds', () => {
    for (const limit of ['CAP1', 'CTL2']) {
      const { rig, admin } = ready(limit === 'CAP1' ? { maxContext: 4 } : {});
      if (limit === 'CTL2') rig.setReg(Reg.CTL2, 0x0000_0018_0004_800bn);
      const p = rig.prepare(5);
      const csbs = [0, 1, 2].map((n) => rig.csb(admin, n));
      rig.run(admin, start(5, 5, { csb: csbs[0] }), start(5, 6, { csb: csbs[1] }), stop(5, 5, { csb: csbs[2] }));
      expect(csbs.map((at) => rig.hex(at, 32))).toEqual([CSB.failed, CSB.done, CSB.done]);
      expect(rig.records()).toEqual([record({ step: 2, sub: 3, re: 0, context: 5 })]);
      expect(rig.state(p)).toBe(STOP_SW);
    }
  });

  it('S-66 CXT_START of 0 does nothing: it is running', () => {
    const { rig, admin } = ready();
    const p = rig.prepare(1);
    const csbs = [0, 1, 2].map((n) => rig.csb(admin, n));
    rig.run(admin, start(0, 0, { csb: csbs[0] }), start(0, 0, { csb: csbs[1], resume: true }), start(0, 1, { csb: csbs[2] }));
    expect(csbs.map((at) => rig.hex(at, 32))).toEqual([CSB.done, CSB.done, CSB.done]);
    expect([rig.state(admin), rig.state(p)]).toEqual([RUN, RUN]);
  });

  it('S-66 CXT_STOP, CXT_UPD, AKEY_UPD and SYNC may name 0', () => {
    const { rig, admin } = ready({ maxContext: 0 });
    const encodes = [
      contextUpdate(0),
      akeyUpdate(0, 0, [0, 255]),
      sync(FILTER.CXT, 0),
      sync(FILTER.STOP, 0),
      sync(FILTER.AKEY, 0),
      stop(0, 0),
    ];
    rig.run(admin, ...encodes);
    expect(rig.hex(admin.status, 16)).toBe(status(STOP_SW, encodes.length));
    expect(rig.records()).toEqual([]);
  });
});

describe('CXT_STOP', () => {
  it('ref §5.6 its completion means that the stop has been initiated, SYNC.STOP that it is over', () => {
    const { rig, admin, p, work } = copying();
    const [a, b] = [rig.csb(admin, 0), rig.csb(admin, 1)];
    rig.queue(admin, stop(1, 1, { csb: a }), sync(FILTER.STOP, 1, 1, { csb: b }));
    rig.stepUntil(() => rig.completion(a).signal === 0n);
    expect(rig.state(p)).toBe(STOPG_SW);
    rig.stepUntil(() => rig.completion(b).signal === 0n);
    expect(rig.state(p)).toBe(STOP_SW);
    expect(rig.hex(work, 32)).toBe(CSB.done); // soft: fetched descriptors finish
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 1));
    expect(rig.isValid(p, 1)).toBe(true);
  });

  it('S-86 hs = 1: the descriptor in execution is consumed without er, signal, interrupt or record', () => {
    const { rig, admin, p, work } = copying();
    const csb = rig.csb(admin);
    rig.run(admin, stop(1, 1, { hard: true }), sync(FILTER.STOP, 1, 1, { csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(work, 32)).toBe(CSB.armed);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 1));
    expect([rig.isValid(p, 0), rig.isValid(p, 1)]).toEqual([false, true]);
    expect([rig.records(), rig.interrupts]).toEqual([[], []]);
  });

  it.each([STOP_SW, STOP_FN, STOPG_SW, ERR_FN, RUN])(
    'S-82 a context with state %d in memory that the function does not run: success without effect',
    (state) => {
      const { rig, admin } = ready();
      const p = rig.prepare(1, { state });
      const csbs = [0, 1, 2].map((n) => rig.csb(admin, n));
      rig.run(admin, stop(1, 1, { csb: csbs[0] }), stop(1, 1, { csb: csbs[1], hard: true }), sync(FILTER.STOP, 1, 1, { csb: csbs[2] }));
      expect(csbs.map((at) => rig.hex(at, 32))).toEqual([CSB.done, CSB.done, CSB.done]);
      expect(rig.hex(p.status, 16)).toBe(status(state, 0));
      expect(rig.records()).toEqual([]);
    },
  );

  it('S-82 a second soft stop during a soft stop, and during one by the function, changes nothing', () => {
    const { rig, admin, p, work } = copying();
    rig.run(admin, stop(1, 1), stop(1, 1), stop(0, 63));
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 1));
    expect(rig.hex(work, 32)).toBe(CSB.done);
  });

  it('S-82 CXT_STOP, SYNC and updates of contexts with invalid, unreadable or impossible tables succeed', () => {
    const { rig, admin } = ready({}, { pages: true });
    const p = rig.running(1);
    rig.unmap(p.control);
    const csb = rig.csb(admin, 0, 9);
    const range = [1, 0xffff] as const;
    rig.run(
      admin,
      stop(...range, { csb }),
      sync(FILTER.STOP, ...range, { csb }),
      contextUpdate(...range, { csb }),
      akeyUpdate(...range, [0, 0xffff], { csb }),
      rkeyUpdate([0, 0xffff], { csb }),
      sync(FILTER.CXT, ...range, { csb }),
      sync(FILTER.AKEY, ...range, { csb, keys: [0, 0xffff] }),
      sync(FILTER.RKEY, 0, 0, { csb, keys: [0, 0xffff] }),
      sync(FILTER.FN, 0, 0, { csb }),
    );
    expect(rig.completion(csb)).toEqual({ signal: 0n, er: false });
    expect(rig.records()).toEqual([]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0)); // withdrawn without a write (S-80)
  });

  it('S-53 a range that includes 0: others first, context 0 last, after its descriptor has completed', () => {
    const { rig, admin } = ready();
    const p = rig.running(1);
    const csb = rig.csb(admin);
    const order: string[] = [];
    rig.queue(admin, stop(0, 1, { csb }), nop());
    rig.stepUntil(() => {
      const now = `csb ${rig.u64(csb)} 1:${rig.state(p)} 0:${rig.state(admin)}`;
      if (order.at(-1) !== now) order.push(now);
      return rig.state(admin) === STOP_SW && rig.state(p) === STOP_SW;
    });
    expect(order[0]).toBe('csb 1 1:1 0:1');
    expect(order[1]).toBe('csb 0 1:2 0:2');
    expect(order.at(-1)).toBe('csb 0 1:0 0:0');
    expect(rig.hex(admin.status, 16)).toBe(status(STOP_SW, 1));
    expect(rig.isValid(admin, 1)).toBe(true);
  });

  it('O-13 context 0 stops itself, softly or hard; CXT_STS says STOP_SW, and a jump start gets it going again', () => {
    for (const hard of [false, true]) {
      const { rig, admin } = ready();
      const csb = rig.csb(admin);
      rig.run(admin, stop(0, 0, { csb, hard }), nop());
      expect(rig.hex(csb, 32)).toBe(CSB.done);
      expect(rig.hex(admin.status, 16)).toBe(status(STOP_SW, 1));
      expect(rig.fn.state).toBe(2);
      rig.setState(admin, RUN);
      rig.fn.ringDoorbell(0, 0);
      rig.drain();
      expect(rig.hex(admin.status, 16)).toBe(status(RUN, 2));
    }
  });
});
