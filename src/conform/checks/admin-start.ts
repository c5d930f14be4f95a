import { ContextState, Reg } from '../../spec/index.js';
import { decision, equal, requirement, section } from '../check.js';
import type { TestContext } from '../context.js';
import { type Dsc, nop, resume, start, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

const { RUN, STOP_SW, STOPG_SW, STOP_FN, STOPG_FN, ERR_FN } = ContextState;
const ONE = { needs: ['context1'] } as const;
const THREE = { needs: ['context3'] } as const;

/** Runs an administrative descriptor that completes with er = 1 while context 0 goes on. S-27 */
async function refused(t: Rig, dsc: Dsc, step: number, sub: number, context: number): Promise<void> {
  const csb = t.csb();
  t.admin.submit(withCsb(dsc, csb.iova));
  await t.log.expect({ step, sub, re: 0, context });
  equal(csb.signal, 0n, 'signal');
  equal(csb.er, true, 'er');
  await t.admin.run(nop());
}

/** Starts a context that is in some state, and sees it work. */
async function starts(t: Rig, state: number, dsc: (first: number) => Dsc): Promise<void> {
  const admin = await t.activate();
  const context = t.context(1, { state });
  await admin.run(dsc(1));
  equal(context.state, RUN, 'state after CXT_START');
  await context.run(nop());
}

/** A context in ERR_FN, the record of it taken. */
async function failed(t: Rig): Promise<TestContext> {
  await t.activate();
  const context = t.running(1);
  await context.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
  return context;
}

export const startChecks = section(
  '5.6 Administrative operations',
  requirement(
    'admin.start',
    'CXT_START.NM: STOP_SW → RUN before it completes',
    'ref §5.6, §13.6 row 3, SDXI 1.0 table 6-14',
    (t) => starts(t, STOP_SW, start),
    ONE,
  ),
  requirement(
    'admin.start.running',
    'CXT_START.NM of a context whose state is RUN already succeeds',
    'O-9',
    (t) => starts(t, RUN, start),
    ONE,
  ),
  decision('admin.start.stop-fn', 'CXT_START.NM: STOP_FN → RUN', 'ref §5.6', (t) => starts(t, STOP_FN, start), ONE),
  decision(
    'admin.start.stopg-sw',
    'CXT_START.NM of STOPG_SW with no stop in progress: → RUN',
    'S-81, ref §13.6 row 15',
    (t) => starts(t, STOPG_SW, start),
    ONE,
  ),
  decision(
    'admin.start.stopg-fn',
    'CXT_START.NM of STOPG_FN with no stop in progress: → RUN',
    'S-81',
    (t) => starts(t, STOPG_FN, start),
    ONE,
  ),
  ...[STOP_SW, RUN, STOP_FN, ERR_FN].map((state) =>
    decision(
      `admin.resume.from-${state.toString(16)}`,
      `CXT_START.RS: state 0x${state.toString(16)} → RUN`,
      'S-25',
      (t) => starts(t, state, resume),
      ONE,
    ),
  ),
  decision(
    'admin.start.err-fn',
    'CXT_START.NM of ERR_FN is refused',
    'ref §5.6, S-83',
    async (t) => {
      const context = await failed(t);
      await refused(t, start(1), 5, 3, 1);
      equal(context.state, ERR_FN, 'state');
    },
    ONE,
  ),
  decision(
    'admin.resume.after-error',
    'CXT_START.RS goes on behind the descriptor that failed',
    'S-25, S-34',
    async (t) => {
      const context = await failed(t);
      await t.admin.run(resume(1));
      await context.run(nop());
      equal(context.readIndex, 2, 'Read_Index');
    },
    ONE,
  ),
  requirement(
    'admin.start.examines',
    'CXT_START looks at Write_Index without any doorbell',
    'O-9, ref §5.6',
    async (t) => {
      await t.activate();
      const context = t.context(1);
      context.put(context.claim(1), nop());
      await t.admin.run(start(1));
      await context.reached(1);
    },
    ONE,
  ),
  requirement(
    'admin.start.dv',
    'CXT_START with dv = 1 starts and wakes',
    'ref §5.6, §6.5',
    async (t) => {
      await t.activate();
      const context = t.context(1);
      context.put(context.claim(1), nop());
      await t.admin.run(start(1, 1, { dv: 1, db_value: 1 }));
      await context.reached(1);
    },
    ONE,
  ),
  requirement(
    'admin.start.range',
    'CXT_START of a range starts all',
    'ref §5.6',
    async (t) => {
      await t.activate();
      const contexts = [t.context(1), t.context(2), t.context(3)];
      await t.admin.run(start(1, 3));
      for (const context of contexts) equal(context.state, RUN, `state of context ${context.number}`);
      for (const context of contexts) await context.run(nop());
    },
    THREE,
  ),
  decision(
    'admin.start.range-skips',
    'a range skips contexts that are not valid',
    'S-27, ref §13.6 row 19',
    async (t) => {
      await t.activate();
      const [one, two, three] = [t.context(1), t.context(2), t.context(3)];
      two.withdraw();
      await t.admin.run(start(1, 3));
      equal(one.state, RUN, 'state of context 1');
      equal(two.state, STOP_SW, 'state of context 2');
      equal(three.state, RUN, 'state of context 3');
    },
    THREE,
  ),
  decision(
    'admin.start.range-fails-one',
    'a range starts the rest when one is refused, and reports the first',
    'S-83',
    async (t) => {
      await t.activate();
      const [one, , three] = [t.context(1), t.context(2, { state: ERR_FN }), t.context(3)];
      await refused(t, start(1, 3), 5, 3, 2);
      equal(one.state, RUN, 'state of context 1');
      equal(three.state, RUN, 'state of context 3');
    },
    THREE,
  ),
  decision(
    'admin.start.invalid-l1',
    'CXT_START of a context whose L1 entry is not valid',
    'S-27, ref §13.6 row 18',
    async (t) => {
      await t.activate();
      t.context(1).withdraw();
      await refused(t, start(1), 3, 3, 1);
    },
    ONE,
  ),
  decision(
    'admin.start.invalid-ctl',
    'CXT_START of a context whose CXT_CTL is not valid',
    'S-27',
    async (t) => {
      await t.activate();
      t.context(1).publishControl({ vl: 0 });
      await refused(t, start(1), 4, 3, 1);
    },
    ONE,
  ),
  decision(
    'admin.start.invalid-state',
    'CXT_START of a context with an illegal state',
    'S-27, ref §8.3 row 15',
    async (t) => {
      await t.activate();
      t.context(1, { state: 7 });
      await refused(t, start(1), 5, 3, 1);
    },
    ONE,
  ),
  decision('admin.start.above-max', 'CXT_START above max_cxt', 'S-52', async (t) => {
    if (t.caps.maxContext === 0xffff) return;
    await t.activate();
    // Its tables are there, so that nothing but its number is wrong.
    const context = t.context(t.caps.maxContext + 1);
    await refused(t, start(context.number), 2, 3, context.number);
    equal(context.state, ContextState.STOP_SW, 'state');
  }),
  decision('admin.start.above-cap', 'CXT_START above CAP1.max_cxt, though CTL2.max_cxt says more', 'S-52, ref §2.5', async (t) => {
    if (t.caps.maxContext === 0xffff) return;
    await t.activate();
    t.write(Reg.CTL2, t.read(Reg.CTL2) | 0xffff_0000n);
    const context = t.context(t.caps.maxContext + 1);
    await refused(t, start(context.number), 2, 3, context.number);
  }),
  decision('admin.start.zero', 'CXT_START of context 0 is a no-op', 'S-66', async (t) => {
    await (await t.activate()).run(start(0));
  }),
  decision(
    'admin.start.bad-write-index',
    'a bad Write_Index found after CXT_START is an error of the target',
    'S-84',
    async (t) => {
      await t.activate();
      const context = t.context(1);
      context.writeIndex.putU64(0, 1025);
      const csb = t.csb();
      t.admin.submit(withCsb(start(1), csb.iova));
      await t.admin.completed(csb);
      await context.fallsOver({ step: 6, sub: 3 });
    },
    ONE,
  ),
);
