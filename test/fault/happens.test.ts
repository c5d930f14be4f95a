/** Each fault that can be provoked really happens: ref §12. Time is the test's. */
import { describe, expect, it } from 'vitest';
import { openBus } from '../../src/bus/index.js';
import { FaultPlan, findFault } from '../../src/fault/index.js';
import type { FunctionConfig } from '../../src/function/index.js';
import { ContextState, decodeRegister, FunctionState, MMIO_CAP0, MMIO_CAP1, MMIO_CTL0, Reg } from '../../src/spec/index.js';
import { CSB } from '../function/expect.js';
import { copy, interrupt, nop, start, stop, sync } from '../function/ops.js';
import { type ContextPlace, LAYOUT, Rig } from '../function/rig.js';

const { RUN, ERR_FN } = ContextState;
const [FROM, TO] = [LAYOUT.data, LAYOUT.data + 0x2000];

class Bench {
  now = 0;
  readonly rig: Rig;
  readonly admin: ContextPlace;
  readonly p: ContextPlace;

  constructor(
    text: string,
    config: Partial<FunctionConfig> = {},
    { pages = false, control = {} }: { pages?: boolean; control?: Record<string, number> } = {},
  ) {
    this.rig = new Rig({ ...new FaultPlan(text).config, ...config }, { pages });
    this.admin = this.rig.activate();
    this.p = this.rig.running(1, { control });
    this.plan(text);
    this.rig.bytes(FROM, 4096).fill(0xab);
  }

  plan(text: string): void {
    const plan = new FaultPlan(text, () => this.now);
    this.rig.fn.setFaults(plan.active ? plan : undefined);
  }

  later(ms: number): void {
    this.now += ms;
    this.rig.drain();
  }

  csb(signal = 1): number {
    return this.rig.csb(this.p, 0, signal);
  }
}

/** What CAP0, CAP1 and CTL0 say of a function that was opened with a plan. */
async function capabilities(text: string) {
  const bus = await openBus(`embedded:?inline=1&faults=${text}`);
  try {
    const cap0 = decodeRegister(MMIO_CAP0, bus.readRegister(Reg.CAP0));
    const cap1 = decodeRegister(MMIO_CAP1, bus.readRegister(Reg.CAP1));
    return { cap0, cap1, ctl0: decodeRegister(MMIO_CTL0, bus.readRegister(Reg.CTL0)), vectors: bus.vectors };
  } finally {
    await bus.close();
  }
}

describe('completions', () => {
  it('F-1 the signal comes ms later, Read_Index at once; not into memory that has gone', () => {
    const b = new Bench('F-1:ms=1500', {}, { pages: true });
    const csb = b.csb();
    b.rig.run(b.p, copy(FROM, TO, 64, { csb }));
    expect([b.rig.completion(csb).signal, b.rig.readIndex(b.p), b.rig.fn.polls]).toEqual([1n, 1, true]);
    b.later(1499);
    expect(b.rig.completion(csb).signal).toBe(1n);
    b.later(1);
    expect([b.rig.completion(csb).signal, b.rig.fn.polls]).toEqual([0n, false]);
    const gone = b.csb();
    b.rig.run(b.p, nop({ csb: gone }));
    const before = b.rig.snapshot();
    b.rig.unmap(gone - (gone % 4096));
    b.later(2000);
    expect(b.rig.snapshot().equals(before)).toBe(true);
  });

  it('F-21 a signal of 255 becomes 0', () => {
    const b = new Bench('F-21');
    const csb = b.csb(255);
    b.rig.run(b.p, nop({ csb }));
    expect(b.rig.completion(csb).signal).toBe(0n);
  });

  it('F-43 the signal comes after a second', () => {
    const b = new Bench('F-43');
    const csb = b.csb();
    b.rig.run(b.p, nop({ csb }));
    b.later(999);
    expect(b.rig.completion(csb).signal).toBe(1n);
    b.later(1);
    expect(b.rig.completion(csb).signal).toBe(0n);
  });

  it('F-45 the interrupt comes before the signal that it announces', () => {
    const b = new Bench('F-45');
    b.rig.akey(b.p, 1, { vl: 1, iv: 1, intr_num: 3 });
    const csb = b.csb();
    const seen: bigint[] = [];
    const { push } = b.rig.interrupts;
    b.rig.interrupts.push = (...vectors) => {
      seen.push(b.rig.completion(csb).signal);
      return push.apply(b.rig.interrupts, vectors);
    };
    b.rig.run(b.p, copy(FROM, TO, 64, { csb }));
    expect(b.rig.completion(csb).signal).toBe(1n);
    b.rig.run(b.p, interrupt(1));
    expect([seen, b.rig.completion(csb).signal]).toEqual([[1n], 0n]);
  });
});

describe('descriptors', () => {
  it('F-2 a COPY moves nothing, er = 1, signal, ERR_FN, a record of step 10', () => {
    const b = new Bench('F-2:after=1');
    const csb = b.csb();
    b.rig.run(b.p, copy(FROM, TO, 64), copy(FROM, TO + 64, 64, { csb }));
    expect(b.rig.hex(csb, 32)).toBe(CSB.failed);
    expect([b.rig.hex(TO, 1), b.rig.hex(TO + 64, 1), b.rig.state(b.p), b.rig.readIndex(b.p)]).toEqual(['ab', '00', ERR_FN, 2]);
    expect(b.rig.records().map((text) => text.slice(2, 4))).toEqual(['0a']);
  });

  it('F-3 a COPY fails, as seen by a client that polls', () => {
    const b = new Bench('F-3');
    const csb = b.csb();
    b.rig.queue(b.p, copy(FROM, TO, 64, { csb }));
    b.rig.stepUntil(() => b.rig.completion(csb).signal === 0n);
    expect(b.rig.completion(csb)).toEqual({ signal: 0n, er: true });
  });

  it('F-4 a descriptor lies in its ring for ms, vl set, and is executed then; a doorbell does not hurry it', () => {
    const b = new Bench('F-4:ms=100,count=1');
    b.rig.run(b.p, copy(FROM, TO, 64), nop());
    b.rig.fn.ringDoorbell(1, 2);
    b.later(99);
    expect([b.rig.hex(TO, 1), b.rig.readIndex(b.p), b.rig.isValid(b.p, 0)]).toEqual(['00', 0, true]);
    b.later(1);
    expect([b.rig.hex(TO, 1), b.rig.readIndex(b.p), b.rig.isValid(b.p, 0)]).toEqual(['ab', 2, false]);
  });

  it('F-5 Read_Index stands still while descriptors complete', () => {
    const b = new Bench('F-5');
    const csb = b.csb(20);
    b.rig.run(b.p, ...Array.from({ length: 20 }, () => nop({ csb })));
    expect([b.rig.completion(csb).signal, b.rig.readIndex(b.p)]).toEqual([0n, 0]);
    b.plan('');
    b.rig.run(b.p, nop());
    expect(b.rig.readIndex(b.p)).toBe(21);
  });

  it('F-13 SYNC waits in its ring, for ever or for ms', () => {
    const b = new Bench('F-13');
    b.rig.run(b.admin, sync(4));
    b.later(1e9);
    expect(b.rig.readIndex(b.admin)).toBe(0);
    b.plan('F-13:ms=50,count=1');
    expect(b.rig.readIndex(b.admin)).toBe(0);
    b.later(0);
    expect(b.rig.readIndex(b.admin)).toBe(1);
    b.plan('');
  });

  it('F-15 vector 0 is raised with a descriptor, without a record', () => {
    const b = new Bench('F-15:every=2');
    b.rig.run(b.p, nop(), nop(), nop(), nop());
    expect([b.rig.interrupts, b.rig.records()]).toEqual([[0, 0], []]);
  });

  it('F-19 an informative record comes with a descriptor, and the context runs on', () => {
    const b = new Bench('F-19:count=1');
    b.rig.run(b.p, nop(), nop());
    expect([b.rig.records().length, b.rig.interrupts, b.rig.state(b.p), b.rig.readIndex(b.p)]).toEqual([1, [0], RUN, 2]);
  });

  it('F-33 Read_Index is beyond Write_Index', () => {
    const b = new Bench('F-33');
    b.rig.run(b.p, nop());
    expect(b.rig.readIndex(b.p)).toBe(5001);
  });

  it('F-35 CXT_STS shows a state that does not exist', () => {
    const b = new Bench('F-35:value=5,context=1');
    b.rig.run(b.admin, stop(1, 1));
    expect(b.rig.state(b.p)).toBe(5);
  });

  it('F-46 CXT_START completes with er = 1, and nothing is started', () => {
    const b = new Bench('F-46');
    const target = b.rig.prepare(2);
    const csb = b.csb();
    b.rig.run(b.admin, start(2, 2, { csb }));
    expect([b.rig.completion(csb), b.rig.state(target)]).toEqual([{ signal: 0n, er: true }, ContextState.STOP_SW]);
  });

  it('F-47 a context goes to ERR_FN in the middle of its ring', () => {
    const b = new Bench('F-47:after=3,count=1');
    b.rig.run(b.p, ...Array.from({ length: 10 }, () => nop()));
    expect([b.rig.state(b.p), b.rig.readIndex(b.p), b.rig.records().length]).toEqual([ERR_FN, 4, 1]);
  });

  it('F-48 half of a COPY is written, then it fails', () => {
    const b = new Bench('F-48');
    const csb = b.csb();
    b.rig.run(b.p, copy(FROM, TO, 4096, { csb }));
    expect([b.rig.hex(TO + 2047, 2), b.rig.completion(csb).er, b.rig.state(b.p)]).toEqual(['ab00', true, ERR_FN]);
  });
});

describe('interrupts and the error log', () => {
  it('F-44 interrupts are dropped, or doubled', () => {
    const b = new Bench('F-44:every=2');
    b.rig.akey(b.p, 1, { vl: 1, iv: 1, intr_num: 3 });
    b.rig.run(b.p, interrupt(1), interrupt(1), interrupt(1), interrupt(1));
    expect(b.rig.interrupts).toEqual([3, 3]);
    b.plan('F-44:value=2,vector=3');
    b.rig.run(b.p, interrupt(1));
    expect(b.rig.interrupts).toEqual([3, 3, 3, 3]);
  });

  it('F-31 a record is lost, ERR_STS.err is set', () => {
    const b = new Bench('F-31;F-2');
    b.rig.run(b.p, copy(FROM, TO, 64));
    expect([b.rig.reg(Reg.ERR_STS), b.rig.reg(Reg.ERR_WRT), b.rig.interrupts]).toEqual([9n, 0n, [0]]);
  });

  it('F-32 a record without vl, of another type, or ERR_WRT far ahead', () => {
    const broken = (value: number) => {
      const b = new Bench(`F-32:value=${value};F-2`);
      b.rig.run(b.p, copy(FROM, TO, 64));
      return b;
    };
    expect(broken(0).rig.hex(LAYOUT.errorLog, 4)).toBe('000af707');
    expect(broken(1).rig.hex(LAYOUT.errorLog, 4)).not.toContain('f707');
    expect(broken(2).rig.reg(Reg.ERR_WRT)).toBe(1n << 20n);
  });
});

describe('the function as a whole', () => {
  it('F-8 RESET in STOP takes the registers back ms later', () => {
    const b = new Bench('');
    b.rig.setReg(Reg.CTL0, 1);
    b.rig.drain();
    b.plan('F-8:ms=5');
    b.rig.setReg(Reg.CTL0, 0);
    b.rig.setReg(Reg.CXT_L2, LAYOUT.l2);
    expect(b.rig.reg(Reg.CXT_L2)).toBe(BigInt(LAYOUT.l2));
    b.later(5);
    expect(b.rig.reg(Reg.CXT_L2)).toBe(0n);
  });

  it('F-9 a soft stop stays in STOPG_SF, a hard one gets through', () => {
    const b = new Bench('F-9');
    b.rig.setReg(Reg.CTL0, 1);
    b.later(1e6);
    expect(b.rig.fn.state).toBe(FunctionState.STOPG_SF);
    b.rig.setReg(Reg.CTL0, 2);
    b.rig.drain();
    expect(b.rig.fn.state).toBe(FunctionState.STOP);
  });

  it('F-9 the end of the plan lets the stop go on; F-10 of one activation does not shorten the next', () => {
    const b = new Bench('F-9');
    b.rig.setReg(Reg.CTL0, 1);
    b.later(10);
    b.plan('F-10:ms=1000');
    b.rig.drain();
    expect(b.rig.fn.state).toBe(FunctionState.STOP);
    b.rig.setReg(Reg.CTL0, 3);
    b.later(900);
    b.rig.setReg(Reg.CTL0, 1);
    b.rig.drain();
    b.rig.setReg(Reg.CTL0, 3);
    b.later(900);
    expect(b.rig.fn.state).toBe(FunctionState.INIT);
    b.later(100);
    expect(b.rig.fn.state).toBe(FunctionState.ACTIVE);
  });

  it('F-10 activation takes ms, then succeeds; a stop meanwhile is a stop', () => {
    const b = new Bench('');
    const begin = () => {
      b.rig.setReg(Reg.CTL0, 1);
      b.rig.drain();
      b.plan('F-10:ms=1500');
      b.rig.setReg(Reg.CTL0, 3);
    };
    begin();
    b.later(1499);
    expect([b.rig.fn.state, b.rig.fn.polls]).toEqual([FunctionState.INIT, true]);
    b.later(1);
    expect(b.rig.fn.state).toBe(FunctionState.ACTIVE);
    begin();
    b.rig.setReg(Reg.CTL0, 1);
    b.later(2000);
    expect(b.rig.fn.state).toBe(FunctionState.STOP);
  });

  it('F-22 INIT lasts ms, and doorbells of that time count afterwards', () => {
    const b = new Bench('');
    b.rig.setReg(Reg.CTL0, 1);
    b.rig.drain();
    b.plan('F-22');
    b.rig.setState(b.p, RUN);
    b.rig.setReg(Reg.CTL0, 3);
    b.rig.run(b.p, copy(FROM, TO, 64));
    expect([b.rig.fn.state, b.rig.hex(TO, 1)]).toEqual([FunctionState.INIT, '00']);
    b.later(100);
    expect([b.rig.fn.state, b.rig.hex(TO, 1)]).toEqual([FunctionState.ACTIVE, 'ab']);
  });

  it('F-14 GSV_ERROR, ms after ACTIVE', () => {
    const b = new Bench('');
    b.rig.setReg(Reg.CTL0, 1);
    b.rig.drain();
    b.plan('F-14:ms=20');
    b.rig.setReg(Reg.CTL0, 3);
    b.later(19);
    expect(b.rig.fn.state).toBe(FunctionState.ACTIVE);
    b.later(1);
    expect(b.rig.fn.state).toBe(FunctionState.ERROR);
  });

  it('F-34 STS0 shows a state that does not exist', () => {
    const b = new Bench('F-34:value=7,after=1');
    expect([b.rig.reg(Reg.STS0), b.rig.reg(Reg.STS0)].map((value) => value & 7n)).toEqual([2n, 7n]);
  });

  it('F-49 every register reads all ones', () => {
    const b = new Bench('F-49');
    for (const offset of [Reg.STS0, Reg.VERSION, Reg.CAP0, 0x1234_0]) expect(b.rig.reg(offset)).toBe(2n ** 64n - 1n);
    expect(b.rig.fn.readRegister(Reg.CAP0, 4)).toBe(0xffff_ffffn);
  });
});

describe('choices of the function', () => {
  it('F-7 vl stays when a descriptor is consumed', () => {
    const b = new Bench('F-7');
    b.rig.run(b.p, nop());
    expect([b.rig.isValid(b.p, 0), b.rig.readIndex(b.p)]).toEqual([true, 1]);
  });

  it('F-11 an old CXT_CTL serves until CXT_UPD', () => {
    const b = new Bench('F-11');
    const other = b.rig.place(2).ring;
    b.rig.run(b.admin, stop(1, 1));
    b.rig.prepare(1, { state: RUN, control: { ds_ring_ptr: other } } as never);
    b.rig.fn.ringDoorbell(1, 0);
    b.rig.run(b.p, nop());
    expect(b.rig.readIndex(b.p)).toBe(1);
  });

  it('F-12 an old AKey entry serves until AKEY_UPD', () => {
    const b = new Bench('F-12');
    b.rig.akey(b.p, 1, { vl: 1, iv: 1, intr_num: 3 });
    b.rig.run(b.p, interrupt(1));
    b.rig.akey(b.p, 1, { vl: 1, iv: 1, intr_num: 4 });
    b.rig.run(b.p, interrupt(1));
    expect(b.rig.interrupts).toEqual([3, 3]);
  });

  it('F-16 CAP1 offers no interrupts, and an INTR is refused', async () => {
    expect((await capabilities('F-16')).cap1.opb_000_cap & 0x10).toBe(0);
    const b = new Bench('F-16');
    b.rig.run(b.p, interrupt(0));
    expect(b.rig.state(b.p)).toBe(ERR_FN);
  });

  it('F-23 a reserved bit is an error', () => {
    const b = new Bench('F-23');
    b.rig.run(b.p, nop({ words: { 5: 1 } }));
    expect(b.rig.state(b.p)).toBe(ERR_FN);
  });

  it('F-24 there are 512 contexts', async () => {
    expect((await capabilities('F-24')).cap1.max_cxt).toBe(511);
  });

  it('F-25 a log of sz = 0 has a page, so sz = 1 has two', () => {
    const b = new Bench('F-25');
    expect(findFault('F-25')?.config).toEqual({ errlog: 'pagesMinus1' });
    for (let n = 0; n < 65; n++) {
      b.rig.run(b.p, copy(0x1, 2 ** 45, 8));
      b.rig.setState(b.p, RUN);
      b.rig.fn.ringDoorbell(1, 0);
      b.rig.drain();
    }
    expect([b.rig.reg(Reg.ERR_WRT), b.rig.reg(Reg.ERR_STS) & 2n]).toEqual([65n, 0n]);
  });

  it('F-26 CAP1 says small limits', async () => {
    expect((await capabilities('F-26')).cap1).toMatchObject({ max_buffer: 0, max_errlog_sz: 0 });
  });

  it('F-27 doorbells lie 8 KiB apart', async () => {
    expect((await capabilities('F-27')).cap0.db_stride).toBe(1);
  });

  it('F-28 rings of up to 2^32 descriptors', async () => {
    expect((await capabilities('F-28')).cap0.max_ds_ring_sz).toBe(22);
  });

  it('F-29 Read_Index is past a descriptor that still executes', () => {
    const b = new Bench('F-29');
    for (let at = 0; at < 2 ** 20; at += 4096) b.rig.map(FROM, 4096, { at: 0x4000_0000 + at });
    const csb = b.csb();
    b.rig.queue(b.p, copy(0x4000_0000, 0x4000_0000 + 2 ** 19, 2 ** 19, { csb }));
    b.rig.fn.step(1);
    expect([b.rig.readIndex(b.p), b.rig.completion(csb).signal]).toEqual([1, 1n]);
  });

  it('F-37 two vectors, contexts 0, 1 and 2', async () => {
    const { cap1, vectors } = await capabilities('F-37');
    expect([cap1.max_cxt, vectors]).toEqual([2, 2]);
  });

  it('F-38 CTL0.fn_grp_id is 7 at power-on', async () => {
    expect((await capabilities('F-38')).ctl0.fn_grp_id).toBe(7);
  });

  it('F-39 descriptors complete out of order', () => {
    const orders = new Set<string>();
    for (let seed = 0; seed < 8; seed++) {
      const b = new Bench('F-39', { seed }, { control: { se: 0 } });
      const blocks = [0, 1, 2, 3].map((n) => b.rig.csb(b.p, n));
      b.rig.queue(b.p, ...blocks.map((csb) => nop({ csb })));
      const order: number[] = [];
      b.rig.stepUntil(() => {
        blocks.forEach((csb, n) => {
          if (b.rig.completion(csb).signal === 0n && !order.includes(n)) order.push(n);
        });
        return order.length === 4;
      });
      orders.add(order.join());
    }
    expect(orders.size).toBeGreaterThan(1);
  });
});
