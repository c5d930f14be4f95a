/** A function is saved in the middle of its work, and goes on elsewhere. Decisions S-125 to S-129. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SdxiError } from '../../src/errors.js';
import type { FunctionConfig } from '../../src/function/config.js';
import { SdxiFunction } from '../../src/function/function.js';
import type { FaultPort } from '../../src/function/ports.js';
import type { FunctionSnapshot } from '../../src/function/snapshot.js';
import { AddressSpaces } from '../../src/memory/address-space.js';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, status } from './expect.js';
import { atomic, copy, FILTER, interrupt, nop, repcopy, start, stop, sync } from './ops.js';
import { LAYOUT, Rig } from './rig.js';
import { activeFamily, family } from './virtual.js';

const { RUN, STOP_SW, STOPG_SW, STOP_FN } = ContextState;
const FROM = LAYOUT.data;
const TO = LAYOUT.data + 0x10_0000;
const LONG = 0x10_0000;

function frozen(rig: Rig, budget = 64): FunctionSnapshot {
  for (let i = 0; !rig.fn.freeze(budget); i++) if (i > 1000) throw new Error('it does not come to rest');
  return JSON.parse(JSON.stringify(rig.fn.snapshot())) as FunctionSnapshot;
}

/** Whether context 0 is in the middle of an administrative operation. */
function waits({ fn }: Rig): boolean {
  const { core } = fn as unknown as { core: { contexts: Map<number, { work: number }> } };
  return core.contexts.get(0)?.work === 3;
}

/** Another function over a copy of the memory, still frozen; the first one's memory is spoilt. */
function moved(rig: Rig, config: Partial<FunctionConfig> = {}, snapshot = frozen(rig)): Rig {
  const other = new Rig(config);
  other.u8.set(rig.u8);
  rig.u8.fill(0xee);
  other.fn.restore(snapshot);
  expect(other.fn.frozen).toBe(true);
  return other;
}

function thawed(rig: Rig): Rig {
  rig.fn.thaw();
  rig.drain();
  return rig;
}

describe('freezing (S-125)', () => {
  it('S-125 what is under way ends, nothing new begins, and software sees no change of state', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const [first, second] = [rig.csb(p, 0), rig.csb(p, 1)];
    rig.queue(p, copy(FROM, TO, LONG, { csb: first }), nop({ csb: second }));
    rig.fn.step(1);
    expect(rig.fn.freeze(1)).toBe(false);
    expect(() => rig.fn.snapshot()).toThrow(expect.objectContaining({ code: 'ERR_SDXI_STATE', hint: expect.stringMatching(/freeze/) }));
    expect(rig.fn.step(64)).toBe(0);
    let calls = 1;
    while (!rig.fn.freeze(1)) calls++;
    expect(calls).toBeGreaterThan(1);
    expect([rig.hex(first, 32), rig.hex(second, 32)]).toEqual([CSB.done, CSB.armed]);
    expect([rig.fn.state, rig.hex(p.status, 16), rig.isValid(p, 1)]).toEqual([FunctionState.ACTIVE, status(RUN, 1), true]);
    expect(rig.reg(Reg.STS0)).toBe(2n);
    thawed(rig);
    expect([rig.hex(second, 32), rig.hex(p.status, 16)]).toEqual([CSB.done, status(RUN, 2)]);
  });

  it('S-125 another function goes on with what is left, once', () => {
    for (let steps = 0; steps < 12; steps++) {
      const rig = new Rig();
      rig.activate();
      const p = rig.running(1);
      rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 9 });
      const csb = rig.csb(p, 0, 100);
      const add = atomic(0x02, 8, TO + LONG, { a: 1n, csb });
      rig.queue(p, add, copy(FROM, TO, 600_000, { csb }), interrupt(1, { csb }), repcopy(FROM, TO, 600_000, { csb }), add, nop({ csb }));
      for (let i = 0; i < steps; i++) rig.fn.step(1);
      const other = moved(rig);
      other.interrupts.push(...rig.interrupts);
      thawed(other);
      expect([other.u64(TO + LONG), other.u64(csb), other.interrupts]).toEqual([2n, 94n, [9]]);
      expect(other.hex(p.status, 16)).toBe(status(RUN, 6));
    }
  });

  it('S-125 one context of two is idle: a doorbell wakes it up there', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const other = moved(rig);
    other.fn.thaw();
    const csb = other.csb(p);
    other.run(p, nop({ csb }));
    expect([other.hex(csb, 32), other.hex(p.status, 16)]).toEqual([CSB.done, status(RUN, 1)]);
  });

  it('S-125 a descriptor that fails while the function freezes fails as ever', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.queue(p, copy(FROM, LAYOUT.base + LAYOUT.bytes - LONG + 64, LONG, { csb }), nop());
    rig.fn.step(1);
    const other = thawed(moved(rig));
    expect([other.hex(csb, 32), other.hex(p.status, 16)]).toEqual([CSB.failed, status(ContextState.ERR_FN, 1)]);
    expect(other.records()).toHaveLength(1);
  });

  it.each(['late', 'early'] as const)('S-125 readIndex=%s, out of order: what is in flight ends, nothing else is taken', (readIndex) => {
    const config = { reorder: 'on', readIndex, seed: 5 } as const;
    const rig = new Rig(config);
    rig.activate();
    const p = rig.running(1, { control: { se: 0 } });
    const csb = rig.csb(p, 0, 100);
    rig.queue(p, ...Array.from({ length: 20 }, (_, i) => copy(FROM, TO + i * 64, i === 3 ? 300_000 : 64, { csb })));
    rig.fn.step(3);
    const snapshot = frozen(rig);
    const done = 100n - rig.u64(csb);
    expect([done, rig.readIndex(p)]).toEqual([8n, 8]);
    const other = thawed(moved(rig, config, snapshot));
    expect([other.u64(csb), other.readIndex(p)]).toEqual([80n, 20]);
  });

  it('S-105, S-125 a context that works out of order does so there', () => {
    const config = { reorder: 'on', seed: 5 } as const;
    const rig = new Rig(config);
    rig.activate();
    const p = rig.running(1, { control: { se: 0 } });
    const csbs = Array.from({ length: 20 }, (_, i) => rig.csb(p, i));
    rig.queue(p, ...csbs.map((csb) => nop({ csb })));
    rig.fn.step(3);
    const other = moved(rig, config);
    const open = () => csbs.filter((csb) => other.u64(csb) === 1n);
    other.fn.thaw();
    let overtaken = false;
    while (open().length > 0) {
      const before = open();
      other.fn.step(1);
      overtaken ||= open().length > 0 && open()[0] === before[0];
    }
    expect(overtaken).toBe(true);
  });

  it('S-125 an error met out of order stops the context before the function stands still', () => {
    const config = { reorder: 'on', seed: 1 } as const;
    const rig = new Rig(config);
    rig.activate();
    const p = rig.running(1, { control: { se: 0 } });
    rig.queue(p, ...Array.from({ length: 8 }, () => copy(1, TO, 64)));
    rig.fn.step(1);
    const other = thawed(moved(rig, config));
    expect(other.hex(p.status, 16)).toBe(status(ContextState.ERR_FN, 8));
  });

  it('S-125 a slot that is looked at without a doorbell is looked at there', () => {
    const config = { pollInvalid: 'on' } as const;
    const rig = new Rig(config);
    rig.activate();
    const p = rig.running(1);
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    const other = moved(rig, config);
    expect(other.fn.polls).toBe(false);
    other.fn.thaw();
    expect(other.fn.polls).toBe(true);
    other.write(p, 0, nop());
    other.drain();
    expect(other.hex(p.status, 16)).toBe(status(RUN, 1));
  });

  it('S-36 a load that failed and was logged is not logged again there', () => {
    const rig = new Rig();
    rig.activate();
    rig.prepare(1, { l1: { vl: 0 } });
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toHaveLength(1);
    const other = thawed(moved(rig));
    other.fn.ringDoorbell(1, 0);
    other.drain();
    expect(other.records()).toHaveLength(1);
  });
});

describe('states of the function (S-125)', () => {
  it('STOP: a snapshot of it restores as any, and the function is thawed all the same', () => {
    const rig = new Rig();
    rig.program();
    const snapshot = frozen(rig);
    expect(snapshot).toMatchObject({ version: 2, live: { state: FunctionState.STOP, contexts: [] } });
    const other = moved(rig, {}, snapshot);
    expect([other.fn.state, other.reg(Reg.CXT_L2)]).toEqual([FunctionState.STOP, BigInt(LAYOUT.l2)]);
  });

  it('S-10 INIT: doorbells that came early are heard there', () => {
    const config = { initDelay: 5 };
    const rig = new Rig(config);
    const p = rig.prepare(1, { state: RUN });
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.write(p, 0, nop());
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1);
    rig.fn.step(1);
    const other = moved(rig, config);
    expect(other.fn.state).toBe(FunctionState.INIT);
    thawed(other);
    expect([other.fn.state, other.hex(p.status, 16)]).toEqual([FunctionState.ACTIVE, status(RUN, 1)]);
  });

  it.each([1, 2])('a stop under way (request %i) ends there', (request) => {
    for (let steps = 0; steps < 5; steps++) {
      const rig = new Rig();
      const admin = rig.activate();
      const [p, q] = [rig.running(1), rig.running(2)];
      rig.queue(p, copy(FROM, TO, LONG), nop());
      rig.fn.step(1);
      rig.setReg(Reg.CTL0, request);
      for (let i = 0; i < steps; i++) rig.fn.step(1);
      const { state } = rig.fn;
      const other = moved(rig);
      expect(other.fn.state).toBe(state);
      thawed(other);
      expect(other.fn.state).toBe(FunctionState.STOP);
      expect([admin, p, q].map((place) => other.state(place))).toEqual([STOP_FN, STOP_FN, STOP_FN]);
      expect(other.readIndex(p)).toBe(1);
    }
  });

  it('S-11 a stop that ends in a reset ends in one there', () => {
    const rig = new Rig();
    rig.activate();
    rig.setReg(Reg.CTL0, 0);
    const other = thawed(moved(rig));
    expect([other.fn.state, other.reg(Reg.CXT_L2)]).toEqual([FunctionState.STOP, 0n]);
  });

  it('a stop that began in INIT forgets the doorbells of INIT', () => {
    const config = { initDelay: 5 };
    const rig = new Rig(config);
    rig.prepare(1, { state: RUN });
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.fn.ringDoorbell(1, 1);
    rig.setReg(Reg.CTL0, 1);
    expect(thawed(moved(rig, config)).fn.state).toBe(FunctionState.STOP);
  });

  it('ERROR in the middle of a stop that was to end in a reset', () => {
    const rig = new Rig();
    rig.activate();
    rig.setReg(Reg.CTL0, 0);
    rig.fn.injectInternalError();
    const other = thawed(moved(rig));
    expect(other.fn.state).toBe(FunctionState.ERROR);
    other.setReg(Reg.CTL0, 1);
    other.setReg(Reg.CTL0, 0);
    expect([other.fn.state, other.reg(Reg.CXT_L2)]).toEqual([FunctionState.STOP, 0n]);
  });

  it('ERROR stays ERROR', () => {
    const rig = new Rig();
    rig.activate();
    rig.fn.injectInternalError();
    const other = thawed(moved(rig));
    expect(other.fn.state).toBe(FunctionState.ERROR);
  });
});

describe('what context 0 waits for (S-126)', () => {
  it('S-126 a SYNC that waits for a stop goes on waiting there, and completes once', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(admin, 0, 5);
    rig.queue(p, copy(FROM, TO, LONG));
    rig.fn.step(1);
    rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1, 1, { csb }));
    rig.stepUntil(() => waits(rig));
    const snapshot = frozen(rig);
    expect(snapshot.live?.contexts.find(({ number }) => number === 0)?.admin).toBeDefined();
    expect(rig.state(p)).toBe(STOPG_SW);
    const other = moved(rig, {}, snapshot);
    expect([other.u64(csb), other.readIndex(admin)]).toEqual([5n, 1]);
    thawed(other);
    expect([other.u64(csb), other.hex(admin.status, 16), other.hex(p.status, 16)]).toEqual([4n, status(RUN, 2), status(STOP_SW, 1)]);
  });

  it('S-126 CXT_START of a range goes on behind the contexts that it has started', () => {
    const config = { maxContext: 255 };
    const rig = new Rig(config);
    const admin = rig.activate();
    const [early, late] = [rig.prepare(1), rig.prepare(130)];
    // What it has started fails at once: a start from the beginning would be refused.
    rig.write(early, 0, copy(1, TO, 64, { flags: 8 }));
    rig.claim(early, 1);
    const csb = rig.csb(admin);
    rig.queue(admin, start(1, 200, { csb }));
    rig.stepUntil(() => rig.state(early) === ContextState.ERR_FN);
    expect([rig.state(late), waits(rig)]).toEqual([STOP_SW, true]);
    const snapshot = frozen(rig);
    expect(snapshot.live?.contexts.find(({ number }) => number === 0)?.admin?.next).toBe(65);
    const other = thawed(moved(rig, config, snapshot));
    expect([other.state(late), other.hex(csb, 32), other.records().length]).toEqual([RUN, CSB.done, 1]);
  });

  it('S-126 the target that could not be started is reported there', () => {
    const config = { maxContext: 255 };
    const rig = new Rig(config);
    const admin = rig.activate();
    rig.prepare(1, { state: ContextState.ERR_FN });
    const csb = rig.csb(admin);
    rig.queue(admin, start(1, 200, { csb }));
    rig.fn.step(1);
    const other = thawed(moved(rig, config));
    expect([other.hex(csb, 32), other.records().length]).toEqual([CSB.failed, 1]);
  });
});

describe('copies of tables (S-128)', () => {
  it.each(['start', 'sticky'] as const)(
    'S-128 cache=%s: a key that software changed without an update is the old one there, too',
    (cache) => {
      const rig = new Rig({ cache });
      rig.activate();
      const p = rig.running(1);
      rig.run(p, copy(FROM, TO, 64));
      rig.queue(p, copy(FROM, TO, 600_000), copy(FROM, TO, 64));
      rig.fn.step(1);
      rig.akey(p, 0, { vl: 0 });
      const snapshot = frozen(rig);
      expect(snapshot.live?.copies?.entries.length).toBeGreaterThan(3);
      const other = thawed(moved(rig, { cache }, snapshot));
      expect(other.hex(p.status, 16)).toBe(status(RUN, 3));
    },
  );

  it('S-128 between functions with and without a cache memory decides', () => {
    for (const [here, there] of [
      ['none', 'start'],
      ['sticky', 'none'],
    ] as const) {
      const rig = new Rig({ cache: here });
      rig.activate();
      const p = rig.running(1);
      rig.queue(p, nop(), copy(FROM, TO, 64));
      const other = thawed(moved(rig, { cache: there }));
      expect(other.hex(p.status, 16)).toBe(status(RUN, 2));
    }
  });
});

/** A plan in which nothing goes wrong but what a test says. */
function plan(faults: Partial<FaultPort>): FaultPort {
  return {
    inOrderOnly: [],
    now: () => 0,
    descriptor: () => undefined,
    noise: () => undefined,
    completion: () => undefined,
    readIndex: (_context, index) => index,
    contextState: (_context, state) => state,
    interrupts: () => 1,
    register: (_offset, value) => value,
    activationMs: () => undefined,
    errorAfterActivationMs: () => undefined,
    lateResetMs: () => undefined,
    holdsSoftStop: () => false,
    record: () => undefined,
    ...faults,
  };
}

describe('what a fault plan holds back (S-127)', () => {
  it('S-127 a completion comes with the thaw there, and stays held where the plan is', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p, 0, 5);
    rig.fn.setFaults(plan({ completion: () => ({ kind: 'hold', ms: 1000 }) }));
    rig.run(p, nop({ csb }), copy(1, TO, 64, { csb }));
    const snapshot = frozen(rig);
    expect(snapshot.live?.completions).toEqual([
      { pasid: -1, address: csb, error: false },
      { pasid: -1, address: csb, error: true },
    ]);
    thawed(rig);
    expect(rig.u64(csb)).toBe(5n);
    frozen(rig);
    const other = moved(rig, {}, snapshot);
    expect(other.u64(csb)).toBe(5n);
    // It can move on before that.
    expect(frozen(other).live?.completions).toHaveLength(2);
    thawed(other);
    expect(other.completion(csb)).toEqual({ signal: 3n, er: true });
  });

  it('S-127 a descriptor that is held back in its slot executes there', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.fn.setFaults(plan({ descriptor: () => ({ kind: 'hold', ms: Number.POSITIVE_INFINITY }) }));
    rig.run(p, nop(), nop());
    expect(rig.readIndex(p)).toBe(0);
    const other = thawed(moved(rig));
    expect(other.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('S-127 INIT ends there', () => {
    const rig = new Rig();
    rig.program();
    rig.fn.setFaults(plan({ activationMs: () => 1e9 }));
    rig.setReg(Reg.CTL0, 3);
    rig.drain();
    expect(rig.fn.state).toBe(FunctionState.INIT);
    expect(thawed(moved(rig)).fn.state).toBe(FunctionState.ACTIVE);
  });

  it('S-127 the real Read_Index is known there, whatever memory shows', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.fn.setFaults(plan({ readIndex: () => undefined }));
    rig.run(p, nop(), nop());
    expect(rig.readIndex(p)).toBe(0);
    const other = thawed(moved(rig));
    other.run(p, nop());
    expect(other.hex(p.status, 16)).toBe(status(RUN, 3));
  });
});

describe('virtual functions (S-118)', () => {
  it('S-118, S-126 each is frozen and moved by itself, and the PF goes on waiting for what its VF does', () => {
    const here = activeFamily(1);
    const p = here.vfs[0].running(1);
    here.vfs[0].queue(p, copy(FROM, TO, LONG));
    here.vfs[0].fn.step(1);
    const csb = here.pf.csb(here.admin, 0, 5);
    here.pf.queue(here.admin, stop(1, 1, { vf: 1 }), sync(FILTER.STOP, 1, 1, { vf: 1, csb }));
    here.pf.drain();
    const [pf, vf] = [frozen(here.pf), frozen(here.vfs[0])];
    expect(pf.live?.contexts[0].admin?.virtual).toBe(1);
    const there = family(1);
    there.pf.u8.set(here.pf.u8);
    there.vfs[0].u8.set(here.vfs[0].u8);
    there.pf.fn.restore(pf);
    there.vfs[0].fn.restore(vf);
    there.drain();
    expect(there.pf.u64(csb)).toBe(5n);
    there.pf.fn.thaw();
    there.vfs[0].fn.thaw();
    there.drain();
    expect([there.pf.u64(csb), there.vfs[0].hex(p.status, 16)]).toEqual([4n, status(STOP_SW, 1)]);
  });
});

describe('meanwhile (S-129)', () => {
  it('S-129 registers can be read; doorbells and requests are kept until the thaw', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.running(1);
    frozen(rig);
    expect(rig.reg(Reg.STS0)).toBe(2n);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    const other = thawed(moved(rig));
    expect(other.hex(p.status, 16)).toBe(status(RUN, 1));
    frozen(other);
    other.setReg(Reg.CTL0, 1);
    other.drain();
    expect([other.fn.state, other.state(admin)]).toEqual([FunctionState.STOPG_SF, RUN]);
    thawed(other);
    expect([other.fn.state, other.state(admin)]).toEqual([FunctionState.STOP, STOP_FN]);
  });

  it('S-129 a function-level reset ends it', () => {
    const rig = new Rig();
    rig.activate();
    frozen(rig);
    rig.fn.reset();
    expect(rig.fn.frozen).toBe(false);
    rig.activate();
  });

  it('thawing what is not frozen does nothing', () => {
    const rig = new Rig();
    rig.activate();
    rig.fn.thaw();
    expect([rig.fn.state, rig.fn.frozen]).toEqual([FunctionState.ACTIVE, false]);
  });
});

/** A snapshot whose checksum fits whatever was done to it. */
function signed(snapshot: FunctionSnapshot): FunctionSnapshot {
  const { format, version, capabilities, registers, live } = snapshot;
  const parts = [format, version, Object.entries(capabilities), Object.entries(registers)];
  const text = JSON.stringify(live === undefined ? parts : [...parts, live]);
  return { ...snapshot, checksum: createHash('sha256').update(text).digest('hex') };
}

/** A snapshot in which there is something of everything. */
function rich(config: Partial<FunctionConfig> = { cache: 'start', maxContext: 255 }): FunctionSnapshot {
  const rig = new Rig(config);
  const admin = rig.activate();
  const [p, q] = [rig.running(1), rig.running(2)];
  rig.run(q, copy(FROM, TO, 64));
  rig.queue(p, copy(FROM, TO, LONG), nop());
  rig.fn.step(1);
  rig.queue(admin, stop(1, 1), start(1, 200, { resume: true }));
  rig.stepUntil(() => waits(rig));
  const snapshot = frozen(rig);
  if (snapshot.live?.contexts.some(({ admin }) => admin !== undefined) !== true) throw new Error('context 0 waits for nothing');
  return snapshot;
}

type Path = (string | number)[];

function* leaves(value: unknown, path: Path = []): Generator<Path> {
  if (typeof value !== 'object' || value === null) yield path;
  else for (const [name, one] of Object.entries(value)) yield* leaves(one, [...path, Array.isArray(value) ? Number(name) : name]);
}

function put(root: unknown, path: Path, value: unknown): void {
  const holder = path.slice(0, -1).reduce((at, name) => (at as Record<string | number, unknown>)[name], root);
  (holder as Record<string | number, unknown>)[path.at(-1) as string | number] = value;
}

describe('what is restored is looked at first', () => {
  const config = { cache: 'start', maxContext: 255 } as const;

  it('the helper of these tests signs as the function does', () => {
    const snapshot = rich();
    expect(signed(snapshot).checksum).toBe(snapshot.checksum);
  });

  it.each<[string, (snapshot: FunctionSnapshot) => void, RegExp]>([
    ['a field that was changed', (s) => Object.assign(s.live?.contexts[0] ?? {}, { rung: true, queued: true }), /checksum/],
    ['no live part', (s) => delete s.live, /no valid live$/],
    ['version 1 with a live part', (s) => Object.assign(s, { version: 1 }), /live part/],
    ['version 3', (s) => Object.assign(s, { version: 3 }), /version 3/],
  ])('%s is refused', (_name, spoil, message) => {
    const snapshot = rich();
    spoil(snapshot);
    expect(() => new Rig(config).fn.restore(snapshot)).toThrow(message);
  });

  it('any field of another kind is refused by its name, and nothing has happened', () => {
    const snapshot = rich();
    const rig = new Rig(config);
    const before = JSON.stringify(frozen(rig));
    rig.fn.thaw();
    for (const path of leaves(snapshot.live)) {
      for (const value of [null, 'x', -2, 1.5, Number.NaN, [], {}, 2 ** 70]) {
        const spoilt = structuredClone(snapshot);
        put(spoilt.live, path, value);
        let error: SdxiError | undefined;
        try {
          rig.fn.restore(signed(spoilt));
        } catch (caught) {
          error = caught as SdxiError;
        }
        expect(error, `${path.join('.')} = ${String(value)}`).toMatchObject({ code: 'ERR_SDXI_STATE' });
        expect([rig.fn.frozen, rig.fn.state]).toEqual([false, FunctionState.STOP]);
      }
    }
    expect(JSON.stringify(frozen(rig))).toBe(before);
  });

  it('contexts and rings that this function cannot have, and operations on virtual functions that it has not', () => {
    expect(() => new Rig({ cache: 'start' }).fn.restore(rich())).toThrow(/CAP1/);
    const small = { ...config, maxRing: 0 };
    const big = rich(small);
    for (const { running } of big.live?.contexts ?? []) if (running !== undefined) running.loaded.ringSize = 2048;
    expect(() => new Rig(small).fn.restore(signed(big))).toThrow(/ring of 2048/);
    const virtual = rich();
    for (const { admin } of virtual.live?.contexts ?? []) if (admin !== undefined) admin.virtual = 3;
    expect(() => new Rig(config).fn.restore(signed(virtual))).toThrow(/virtual function 3/);
  });

  it('whatever is let through does not make the function throw, and writes nothing that is not mapped', { timeout: 120_000 }, () => {
    const snapshot = rich();
    const paths = [...leaves(snapshot.live)];
    const value = fc.oneof(
      fc.integer({ min: -1, max: 70_000 }),
      fc.nat(0xffff_ffff),
      fc.nat(2 ** 20).map((n) => n * 4096),
      fc.constantFrom(2 ** 53 - 1, 2 ** 53, 2 ** 64, true, false, 'hard', 'soft', 'none'),
    );
    let taken = 0;
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(paths.length - 1), value), { minLength: 1, maxLength: 4 }), (changes) => {
        const spoilt = structuredClone(snapshot);
        for (const [at, one] of changes) put(spoilt.live, paths[at], one);
        const rig = new Rig(config);
        try {
          rig.fn.restore(signed(spoilt));
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_SDXI_STATE' });
          return;
        }
        taken++;
        rig.fn.thaw();
        for (let i = 0; i < 50; i++) rig.fn.step(8);
        rig.fn.freeze(64);
        rig.setReg(Reg.CTL0, 2);
        rig.fn.thaw();
        for (let i = 0; i < 20; i++) rig.fn.step(8);
      }),
      { numRuns: 400 },
    );
    expect(taken).toBeGreaterThan(20);
  });

  it('a snapshot of a stopped function is what it was before, and none of a function that is neither stopped nor frozen can be had', () => {
    const rig = new Rig();
    rig.program();
    expect(rig.fn.snapshot().version).toBe(1);
    const other = new SdxiFunction({}, { memory: new AddressSpaces(), interrupts: { vectors: 1, raise: () => {} } });
    other.restore(rig.fn.snapshot());
    expect(other.frozen).toBe(false);
    rig.activate();
    expect(() => rig.fn.snapshot()).toThrow(/not stopped/);
  });
});
