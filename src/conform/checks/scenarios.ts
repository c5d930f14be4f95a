import { Access } from '../../memory/index.js';
import { ContextState, FunctionRequest, FunctionState, Reg } from '../../spec/index.js';
import { decision, equal, holds, requirement, section } from '../check.js';
import type { TestContext } from '../context.js';
import { CLEAR_ALL } from '../log.js';
import { pattern } from '../memory.js';
import { copy, interrupt, nop, start, stop, sync, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

const { RUN, STOP_SW, STOPG_SW, STOP_FN, ERR_FN } = ContextState;
const ONE = { needs: ['context1'] } as const;
const WITH_INTR = { needs: ['context1', 'interrupts'] } as const;

const row = (number: number) => `ref §13.6 row ${number}`;

/** Row 5, and what rows 13 and 14 start from: a copy into a hole, an INTR behind it. */
async function failedCopy(t: Rig): Promise<TestContext> {
  await t.activate();
  const context = t.running(1);
  context.akey(0, { iv: 1, intr_num: 1 });
  const source = t.mem.alloc('the source', 4096);
  const csb = t.csb();
  context.submit(withCsb(copy(source.iova, t.mem.hole, 4096, { fe: 1 }), csb.iova), interrupt(0));
  await t.log.expect({ step: 10, sub: 1, context: 1, index: 0, operand: 1 });
  equal(csb.signal, 0n, 'signal');
  equal(csb.er, true, 'er');
  equal(context.state, ERR_FN, 'state');
  equal(context.readIndex, 1, 'Read_Index');
  return context;
}

export const scenarioChecks = section(
  '13.6 Scenarios',
  requirement('scenario.1', 'activation', row(1), async (t) => {
    t.prepare();
    t.write(Reg.CTL0, (t.read(Reg.CTL0) & ~0xffff_ffffn) | 3n);
    await t.functionBecomes(FunctionState.ACTIVE);
    equal(t.log.written, 0n, 'ERR_WRT');
  }),
  requirement('scenario.2', 'doorbell 0 of an empty context 0', row(2), async (t) => {
    const admin = await t.activate();
    await t.settle();
    equal(admin.state, RUN, 'state');
    equal(admin.readIndex, 1, 'Read_Index behind the fence');
  }),
  requirement(
    'scenario.3',
    'CXT_START: state, signal, vl, Read_Index',
    row(3),
    async (t) => {
      const admin = await t.activate();
      const context = t.context(1);
      const csb = t.csb();
      admin.submit(withCsb(start(1), csb.iova));
      await t.until(() => csb.signal === 0n, 'signal');
      equal(context.state, RUN, 'state when the signal is 0');
      await admin.reached(1);
      equal(csb.er, false, 'er');
      equal(admin.ring.u8(0), 0x04, 'byte 0 of the slot');
    },
    { needs: ['context1'], options: ['clearValid'] },
  ),
  requirement(
    'scenario.4',
    'a copy and its interrupt',
    row(4),
    async (t) => {
      await t.activate();
      const context = t.running(1);
      context.akey(0, { iv: 1, intr_num: 1 });
      const source = t.mem.alloc('the source', 4096);
      const target = t.mem.alloc('the destination', 4096);
      source.put(0, pattern(4096));
      target.want(0, source.expected);
      const csb = t.csb();
      context.submit(withCsb(copy(source.iova, target.iova, 4096, { fe: 1 }), csb.iova), interrupt(0));
      await t.interrupted(1);
      target.verify();
      await context.completed(csb);
    },
    WITH_INTR,
  ),
  requirement(
    'scenario.5',
    'a copy into a hole: er, record, ERR_FN, no INTR',
    row(5),
    async (t) => {
      const context = await failedCopy(t);
      await t.interrupted(0);
      await t.quiet(() => t.delivered(1) > 0, 'the INTR behind the failed copy was executed');
      equal(context.readIndex, 1, 'Read_Index');
    },
    WITH_INTR,
  ),
  requirement(
    'scenario.6',
    'CXT_STOP and SYNC.STOP',
    row(6),
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      const csb = t.csb();
      t.admin.submit(stop(1), withCsb(sync(1, 1), csb.iova));
      await t.until(() => {
        const done = csb.signal === 0n;
        if (done) equal(context.state, STOP_SW, 'state when SYNC.STOP has completed');
        return done;
      }, 'signal of SYNC.STOP');
      await t.admin.completed(csb);
    },
    ONE,
  ),
  requirement('scenario.7', 'slot 0 not valid, slot 1 valid', row(7), async (t) => {
    const context = await t.worker();
    const first = context.claim(2);
    context.put(first + 1, nop());
    context.doorbell();
    await t.quiet(() => context.readIndex > 0, 'something was executed');
    context.put(first, nop());
    context.doorbell();
    await context.reached(2);
  }),
  requirement('scenario.8', 'signal 0xFF becomes 0xFE', row(8), async (t) => {
    const context = await t.worker();
    const source = t.mem.alloc('the source', 64);
    const target = t.mem.alloc('the destination', 64);
    source.put(0, pattern(64));
    target.want(0, source.expected);
    const csb = t.csb(0xff);
    context.submit(withCsb(copy(source.iova, target.iova, 64), csb.iova));
    await context.run(nop({ fe: 1 }));
    equal(csb.signal, 0xfen, 'signal');
  }),
  requirement(
    'scenario.9',
    'two contexts share one block',
    row(9),
    async (t) => {
      await t.activate();
      const csb = t.csb(2);
      for (const number of [1, 2]) {
        const context = t.running(number);
        context.submit(withCsb(nop(), csb.iova));
        await context.reached();
      }
      await t.until(() => csb.signal === 0n, 'signal 0');
    },
    { needs: ['context2'] },
  ),
  requirement('scenario.10', 'an error with the log off', row(10), async (t) => {
    const context = await t.worker({}, { log: false });
    context.submit(nop({ subtype: 0x7f }));
    await context.becomes(ERR_FN);
    await t.quiet(() => t.delivered(0) > 0, 'an interrupt with the log off');
    equal(t.read(Reg.ERR_STS), 0n, 'ERR_STS');
  }),
  requirement(
    'scenario.11',
    'an error with the log full',
    row(11),
    async (t) => {
      const context = await t.worker();
      t.log.uncounted = true;
      t.write(Reg.ERR_WRT, 64n);
      t.write(Reg.ERR_STS, CLEAR_ALL);
      context.submit(nop({ subtype: 0x7f }));
      await t.interrupted(0);
      equal(t.read(Reg.ERR_STS), 3n, 'ERR_STS');
      equal(t.log.written, 64n, 'ERR_WRT');
    },
    { options: ['errlog'] },
  ),
  requirement(
    'scenario.12',
    'STOP_SF with two contexts running',
    row(12),
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop(), nop());
      await t.admin.run(nop());
      t.request(FunctionRequest.STOP_SF);
      await t.functionBecomes(FunctionState.STOP);
      equal(context.state, STOP_FN, 'state of context 1');
      equal(t.admin.state, STOP_FN, 'state of context 0');
      equal(context.readIndex, 2, 'Read_Index');
    },
    ONE,
  ),
  requirement(
    'scenario.13',
    'a doorbell of a context in ERR_FN',
    row(13),
    async (t) => {
      const context = await failedCopy(t);
      context.doorbell();
      await t.quiet(() => context.readIndex !== 1 || context.state !== ERR_FN || t.log.written > 1n, 'a context in ERR_FN did something');
    },
    WITH_INTR,
  ),
  requirement(
    'scenario.14',
    'RUN and a doorbell after an error',
    row(14),
    async (t) => {
      const context = await failedCopy(t);
      context.jumpStart();
      await t.interrupted(1);
      await context.reached(2);
    },
    WITH_INTR,
  ),
  decision(
    'scenario.15',
    'CXT_START of a context that memory says is stopping',
    `${row(15)}, S-81`,
    async (t) => {
      const admin = await t.activate();
      const context = t.context(1, { state: STOPG_SW });
      await admin.run(start(1));
      equal(context.state, RUN, 'state');
    },
    ONE,
  ),
  decision(
    'scenario.16',
    'STOP_SF with a running context whose L1 entry is zero',
    `${row(16)}, S-80`,
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      await t.settle();
      context.withdraw();
      t.request(FunctionRequest.STOP_SF);
      await t.functionBecomes(FunctionState.STOP);
      equal(context.state, RUN, 'state that nobody may write');
    },
    { needs: ['context1'], options: ['cache'] },
  ),
  decision(
    'scenario.17',
    'the slot of Read_Index lies on a read-only page',
    `${row(17)}, S-76`,
    async (t) => {
      const ring = t.mem.special('the ring', 65_536, { access: Access.READ, rule: 'ring' });
      const context = await t.worker({ ring });
      const csb = t.csb();
      const target = t.mem.alloc('the destination', 64);
      context.submit(withCsb(copy(t.l2.iova, target.iova, 64), csb.iova));
      await context.fallsOver({ step: 7, sub: 2 }, { index: 0, readIndex: 0 });
      equal(csb.signal, 1n, 'signal');
    },
    { options: ['clearValid'] },
  ),
  decision(
    'scenario.18',
    'CXT_START of a context whose L1 entry is not valid',
    `${row(18)}, S-27`,
    async (t) => {
      const admin = await t.activate();
      t.context(1).withdraw();
      const csb = t.csb();
      admin.submit(withCsb(start(1), csb.iova));
      await t.log.expect({ step: 3, sub: 3, re: 0, context: 1 });
      equal(csb.signal, 0n, 'signal');
      holds(csb.er, 'er is not set');
      equal(admin.state, RUN, 'state of context 0');
    },
    ONE,
  ),
  decision(
    'scenario.19',
    'CXT_START of a range with an entry that is not valid',
    `${row(19)}, S-27`,
    async (t) => {
      const admin = await t.activate();
      const [one, two, three] = [t.context(1), t.context(2), t.context(3)];
      two.withdraw();
      await admin.run(start(1, 3));
      equal(one.state, RUN, 'state of context 1');
      equal(three.state, RUN, 'state of context 3');
      equal(t.log.written, 0n, 'ERR_WRT');
    },
    { needs: ['context3'] },
  ),
);
