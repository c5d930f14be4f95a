import { ContextState, FunctionRequest, FunctionState, Reg } from '../../spec/index.js';
import { decision, equal, holds, requirement, section, skip } from '../check.js';
import type { Csb, TestContext } from '../context.js';
import { pattern } from '../memory.js';
import { copy, nop, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

const { RESET, STOP_SF, STOP_HD, ACTIVE } = FunctionRequest;
const { RUN, STOP_SW, STOP_FN, STOPG_FN, ERR_FN } = ContextState;

const REQUESTS = [
  ['reset', RESET],
  ['stop-sf', STOP_SF],
  ['stop-hd', STOP_HD],
] as const;

/** Requests a stop and waits for it. */
async function stops(t: Rig, request: FunctionRequest = STOP_SF): Promise<void> {
  t.request(request);
  await t.functionBecomes(FunctionState.STOP);
}

/** Step 9 again, after a stop. */
async function restarts(t: Rig): Promise<void> {
  t.request(ACTIVE);
  await t.functionBecomes(FunctionState.ACTIVE);
}

/** Read anew each time. */
const signalOf = (csb: Csb): bigint => csb.signal;

const CHUNK = 2 ** 20;
const LONG = 2 ** 28;
/** Where mapping is slow (behind an emulated IOMMU each page is a message), the copy is as long as can be mapped in this time. */
const MAPPING_MS = 500;

/** A running context with a copy of up to 256 MiB in execution: one MiB, seen at many addresses. */
export async function longCopy(t: Rig): Promise<{ context: TestContext; csb: Csb; finish: () => void }> {
  const context = await t.worker();
  const source = t.mem.alloc('the source', CHUNK, { align: 4096 });
  const target = t.mem.alloc('the destination', CHUNK, { align: 4096 });
  source.put(0, pattern(CHUNK));
  const from = t.mem.reserve(LONG);
  const to = t.mem.reserve(LONG);
  const until = performance.now() + MAPPING_MS;
  let length = 0;
  do {
    t.mem.alias(source, from + length);
    t.mem.alias(target, to + length);
    length += CHUNK;
  } while (length < LONG && performance.now() < until);
  const csb = t.csb();
  target.ignore();
  context.submit(withCsb(copy(from, to, length), csb.iova));
  await t.until(() => target.u8(0) === source.u8(0), 'first byte of a long copy');
  return { context, csb, finish: () => holds(Buffer.compare(target.bytes, source.bytes) === 0, 'the long copy is not complete') };
}

export const stopChecks = section(
  '3 Function states',
  requirement('fn.soft.registers', 'a soft stop keeps the registers', 'ref §3.3, §10', async (t) => {
    await t.activate();
    const before = [Reg.CTL2, Reg.CXT_L2, Reg.ERR_CTL, Reg.ERR_CFG].map((offset) => t.read(offset)).join();
    await stops(t);
    equal(
      [Reg.CTL2, Reg.CXT_L2, Reg.ERR_CTL, Reg.ERR_CFG].map((offset) => t.read(offset)).join(),
      before,
      'CTL2, CXT_L2, ERR_CTL, ERR_CFG',
    );
  }),
  REQUESTS.slice(1).flatMap(([name, request]) => [
    decision(
      `fn.${name}.contexts`,
      `${name}: running contexts end in STOP_FN with their final Read_Index`,
      'ref §3.3 rule 6',
      async (t) => {
        const context = await t.worker();
        await context.run(nop(), nop(), nop());
        await stops(t, request);
        equal(context.state, STOP_FN, 'state of the context');
        equal(t.admin.state, STOP_FN, 'state of context 0');
        equal(context.readIndex, 3, 'Read_Index');
      },
    ),
    decision(`fn.${name}.waiting`, `${name}: a context that waits for a slot stops at once`, 'ref §3.3 rule 6', async (t) => {
      const context = await t.worker();
      context.claim(1);
      context.doorbell();
      await t.quiet(() => context.readIndex > 0, 'an invalid slot was consumed');
      await stops(t, request);
      equal(context.state, STOP_FN, 'state of the context');
      equal(context.readIndex, 0, 'Read_Index');
    }),
    decision(
      `fn.${name}.others`,
      `${name}: contexts that do not run keep their state`,
      'S-79',
      async (t) => {
        await t.activate();
        const stopped = t.context(1, { state: STOP_SW });
        const failed = t.context(2, { state: ERR_FN });
        const never = t.context(3, { state: RUN });
        await stops(t, request);
        equal(stopped.state, STOP_SW, 'state of a stopped context');
        equal(failed.state, ERR_FN, 'state of a failed context');
        equal(never.state, RUN, 'state of a context that nobody started');
      },
      { needs: ['context3'] },
    ),
  ]),
  decision(
    'fn.soft.finishes',
    'a soft stop waits for the descriptor in execution',
    'S-87, ref §3.3 rule 6',
    async (t) => {
      const { context, csb, finish } = await longCopy(t);
      await stops(t);
      equal(csb.signal, 0n, 'signal');
      equal(context.readIndex, 1, 'Read_Index');
      equal(context.state, STOP_FN, 'state of the context');
      finish();
    },
    { needs: ['largeBuffers'] },
  ),
  decision(
    'fn.soft.shows',
    'while it waits, STS0 shows STOPG_SF and CXT_STS STOPG_FN',
    'ref §3.2, §3.3 rule 6',
    async (t) => {
      const { context } = await longCopy(t);
      t.request(STOP_SF);
      const seen = t.functionState; // once: it may change any moment
      if (seen === FunctionState.STOP) skip('the copy ended before the stop was seen');
      equal(seen, FunctionState.STOPG_SF, 'the function state');
      await t.until(() => context.state !== RUN, 'change of the context state');
      const { state } = context;
      holds(state === STOPG_FN || state === STOP_FN, `the context state is 0x${state.toString(16)}`);
      await t.functionBecomes(FunctionState.STOP);
    },
    { needs: ['largeBuffers'] },
  ),
  decision(
    'fn.soft.stops-fetching',
    'a soft stop takes no new descriptor',
    'ref §3.3 rule 6',
    async (t) => {
      const { context } = await longCopy(t);
      t.request(STOP_SF);
      if (t.functionState === FunctionState.STOP) skip('the copy ended before the stop was seen');
      context.submit(nop());
      await t.functionBecomes(FunctionState.STOP);
      equal(context.readIndex, 1, 'Read_Index');
    },
    { needs: ['largeBuffers'] },
  ),
  [
    ['stop-sf', STOP_SF, 'stays STOPG_SF'],
    ['active', ACTIVE, 'stays STOPG_SF'],
    ['stop-hd', STOP_HD, '→ STOPG_HD → STOP'],
    ['reset', RESET, '→ STOPG_HD → STOP'],
  ].map(([name, request, what]) =>
    decision(
      `fn.stopg-sf.${name}`,
      `STOPG_SF × ${name}: ${what}`,
      'ref §3.2, S-90',
      async (t) => {
        const { context } = await longCopy(t);
        t.request(STOP_SF);
        if (t.functionState !== FunctionState.STOPG_SF) skip('the copy ended before the stop was seen');
        t.request(request as FunctionRequest);
        const hurried = name === 'stop-hd' || name === 'reset';
        const { STOP, STOPG_SF, STOPG_HD } = FunctionState;
        const state = t.functionState;
        holds((hurried ? [STOPG_HD, STOP] : [STOPG_SF, STOP]).includes(state as 0), `the function state is ${state}`);
        await t.functionBecomes(STOP);
        equal(context.readIndex, 1, 'Read_Index');
        equal(t.functionState, STOP, 'the function state');
      },
      { needs: ['largeBuffers'] },
    ),
  ),
  decision(
    'fn.hard.abandons',
    'a hard stop gives up the descriptor in execution: consumed, not completed',
    'S-86, ref §3.3 rule 7',
    async (t) => {
      const { context, csb } = await longCopy(t);
      t.request(STOP_HD);
      const caught = signalOf(csb) === 1n;
      await t.functionBecomes(FunctionState.STOP);
      equal(context.readIndex, 1, 'Read_Index');
      equal(context.state, STOP_FN, 'state of the context');
      equal(csb.er, false, 'er');
      if (!caught || signalOf(csb) === 0n) skip('the copy ended before the stop was requested');
    },
    { needs: ['largeBuffers'] },
  ),
  requirement('fn.stop.no-access', 'in STOP a doorbell leads to nothing', 'ref §3.3 rule 8', async (t) => {
    const context = await t.worker();
    await context.run(nop());
    await stops(t);
    context.state = RUN;
    context.submit(nop());
    holds(!t.bus.spin(() => context.readIndex > 1, 2), 'a context ran in GSV_STOP');
  }),
  decision('fn.stop.drops-doorbells', 'a doorbell in STOP is forgotten', 'S-10, ref §2.13', async (t) => {
    t.prepare();
    t.admin.put(t.admin.claim(1), nop());
    t.admin.doorbell();
    await restarts(t);
    holds(!t.bus.spin(() => t.admin.readIndex > 0, 2), 'a doorbell of GSV_STOP was acted upon in ACTIVE');
  }),
  requirement('fn.restart.resumes', 'after stop and start a context goes on at its Read_Index', 'ref §6.2, §10', async (t) => {
    const context = await t.worker();
    await context.run(nop(), nop());
    await stops(t);
    await restarts(t);
    t.admin.jumpStart();
    context.state = RUN;
    await context.run(nop());
    equal(context.readIndex, 3, 'Read_Index');
  }),
  requirement('fn.restart.starts-nothing', 'after stop and start a context in STOP_FN stays stopped', 'ref §3.3 rule 5', async (t) => {
    const context = await t.worker();
    await context.run(nop());
    await stops(t);
    await restarts(t);
    context.submit(nop());
    holds(!t.bus.spin(() => context.readIndex > 1, 2), 'a stopped context ran');
  }),
  requirement('fn.cycles', '20 starts and stops with work between them', 'ref §3.2, O-22', async (t) => {
    const context = await t.worker();
    for (let i = 0; i < 20; i++) {
      context.state = RUN;
      await context.run(nop());
      await stops(t, i % 2 === 0 ? STOP_SF : STOP_HD);
      await restarts(t);
    }
    equal(context.readIndex, 20, 'Read_Index');
  }),
  decision(
    'fn.soft.withdrawn',
    'a running context whose tables were withdrawn does not hold up the stop',
    'S-80, ref §13.6 row 16',
    async (t) => {
      const context = await t.worker();
      await context.run(nop());
      await t.settle(); // a doorbell that is still to be heard would load it again
      context.withdraw();
      const before = context.status.bytes.slice();
      await stops(t);
      holds(Buffer.compare(context.status.bytes, before) === 0, 'CXT_STS was written');
    },
    { needs: ['context1'], options: ['cache'] },
  ),
  requirement('fn.stop.quick', 'a stop with idle contexts takes less than the second that drivers wait', 'O-22', async (t) => {
    const context = await t.worker();
    await context.run(nop());
    const from = performance.now();
    await stops(t);
    holds(performance.now() - from < 1000, 'the stop took more than 1 s');
  }),
);
