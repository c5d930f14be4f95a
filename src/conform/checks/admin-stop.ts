import { ContextState, DescriptorFlag, FunctionState, SyncFilter } from '../../spec/index.js';
import { decision, equal, requirement, section, skip } from '../check.js';
import type { Csb } from '../context.js';
import { contextUpdate, copy, nop, start, stop, sync, withCsb } from '../program.js';
import type { Rig } from '../rig.js';
import { longCopy } from './stops.js';

const { RUN, STOP_SW, STOP_FN, ERR_FN } = ContextState;
const ONE = { needs: ['context1'] } as const;
const LONG = { needs: ['context1', 'largeBuffers'] } as const;
const THREE = { needs: ['context3'] } as const;

/**
 * Submits an administrative descriptor and the SYNC behind it, without waiting for them. When this returns the function has seen the
 * doorbell, for a register was read after it (S-10): what has not ended by now did not end before the request.
 */
function requestBoth(t: Rig, request: Uint8Array, fence: Uint8Array): Csb {
  const csb = t.csb();
  const last = withCsb(fence, csb.iova);
  last[0] |= DescriptorFlag.FE;
  t.admin.submit(request, last);
  equal(t.functionState, FunctionState.ACTIVE, 'the function state');
  return csb;
}

export const contextStopChecks = section(
  '5.6 Administrative operations',
  requirement(
    'admin.stop',
    'CXT_STOP: RUN → STOP_SW, with the final Read_Index',
    'ref §5.6, §6.5, SDXI 1.0 table 6-15',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop(), nop());
      await t.admin.run(stop(1));
      await context.becomes(STOP_SW);
      equal(context.readIndex, 2, 'Read_Index');
    },
    ONE,
  ),
  requirement(
    'admin.stop.sync',
    'SYNC.STOP completes only when the stop is final',
    'O-14, ref §13.6 row 6',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      const csb = t.csb();
      t.admin.submit(stop(1), withCsb(sync(SyncFilter.STOP, 1), csb.iova));
      await t.until(() => csb.signal === 0n, 'completion of SYNC.STOP');
      equal(context.state, STOP_SW, 'state when SYNC.STOP has completed');
      await t.admin.completed(csb);
    },
    ONE,
  ),
  requirement(
    'admin.stop.really',
    'a stopped context takes nothing any more',
    'ref §6.5',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await t.settle();
      await t.admin.run(stop(1), sync(SyncFilter.STOP, 1));
      context.submit(nop());
      await t.quiet(() => context.readIndex > 0, 'a stopped context ran');
    },
    ONE,
  ),
  requirement(
    'admin.stop.waiting',
    'a context that waits for a slot can be stopped',
    'ref §6.5, O-18',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      context.claim(1);
      context.doorbell();
      await t.settle();
      await t.admin.run(stop(1), sync(SyncFilter.STOP, 1));
      equal(context.state, STOP_SW, 'state');
      equal(context.readIndex, 0, 'Read_Index');
    },
    ONE,
  ),
  requirement(
    'admin.stop.hard',
    'CXT_STOP with hs = 1 stops an idle context',
    'ref §5.6',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      await t.admin.run(stop(1, 1, { hs: 1 }), sync(SyncFilter.STOP, 1));
      equal(context.state, STOP_SW, 'state');
    },
    ONE,
  ),
  ...[STOP_SW, STOP_FN, ERR_FN].map((state) =>
    requirement(
      `admin.stop.in-${state.toString(16)}`,
      `CXT_STOP of a context in state 0x${state.toString(16)} succeeds without effect`,
      'ref §5.6, O-14',
      async (t) => {
        await t.activate();
        const context = t.context(1, { state });
        await t.admin.run(stop(1), sync(SyncFilter.STOP, 1));
        equal(context.state, state, 'state');
      },
      ONE,
    ),
  ),
  requirement(
    'admin.stop.unknown',
    'CXT_STOP and SYNC.STOP of a context without tables succeed',
    'ref §5.6, O-14, §11.4',
    async (t) => {
      await (await t.activate()).run(stop(1), sync(SyncFilter.STOP, 1));
    },
    ONE,
  ),
  requirement('admin.stop.self', 'context 0 stops itself: the descriptor completes, then STOP_SW', 'O-13', async (t) => {
    const admin = await t.activate();
    await admin.run(stop(0));
    await admin.becomes(STOP_SW);
    equal(admin.readIndex, 1, 'Read_Index');
  }),
  requirement('admin.stop.self-restart', 'context 0 runs again after a jump start', 'O-13, O-10', async (t) => {
    const admin = await t.activate();
    await admin.run(stop(0));
    await admin.becomes(STOP_SW);
    admin.jumpStart();
    await admin.run(nop());
  }),
  decision(
    'admin.stop.range',
    'CXT_STOP of a range with context 0: the others, then itself',
    'S-53',
    async (t) => {
      await t.activate();
      const contexts = [t.running(1), t.running(2), t.running(3)];
      for (const context of contexts) await context.run(nop());
      await t.admin.run(stop(0, 3));
      for (const context of [...contexts, t.admin]) await context.becomes(STOP_SW);
    },
    THREE,
  ),
  requirement(
    'admin.stop.start',
    'stop and start: the context goes on where it was',
    'ref §5.6',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await context.run(nop());
      await t.admin.run(stop(1), sync(SyncFilter.STOP, 1));
      context.submit(nop(), nop());
      await t.admin.run(start(1));
      await context.reached(3);
    },
    ONE,
  ),
  requirement(
    'admin.stop.fe-0',
    'CXT_STOP and CXT_START with fe = 0 are not refused',
    'ref §5.6',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      await t.settle();
      await t.admin.run(stop(1, 1, { fe: 0 }));
      await context.becomes(STOP_SW);
      await t.admin.run(start(1, 1, { fe: 0 }));
      equal(context.state, RUN, 'state');
    },
    ONE,
  ),
  requirement(
    'admin.stop.others',
    'CXT_STOP stops no context outside its range',
    'ref §5.6, SDXI 1.0 table 6-15',
    async (t) => {
      await t.activate();
      const contexts = [t.running(1), t.running(2), t.running(3)];
      for (const context of contexts) await context.run(nop());
      await t.admin.run(stop(2), sync(SyncFilter.STOP, 2));
      equal(contexts.map(({ state }) => state).join(), [RUN, STOP_SW, RUN].join(), 'states of contexts 1, 2 and 3');
      await contexts[0].run(nop());
      await contexts[2].run(nop());
    },
    THREE,
  ),
  decision(
    'admin.stop.waits',
    'a soft stop lets a descriptor in execution finish, and SYNC.STOP waits for that',
    'O-14, S-87, ref §5.6',
    async (t) => {
      const { context, csb, finish } = await longCopy(t);
      await t.admin.run(stop(1), sync(SyncFilter.STOP, 1));
      equal(context.state, STOP_SW, 'state when SYNC.STOP has completed');
      equal(csb.signal, 0n, 'signal of the copy');
      equal(csb.er, false, 'er of the copy');
      finish();
    },
    LONG,
  ),
  decision(
    'admin.stop.abandons',
    'CXT_STOP with hs = 1 abandons a descriptor in execution: consumed, not completed',
    'S-86, ref §5.6',
    async (t) => {
      const { context, csb } = await longCopy(t);
      const stopped = requestBoth(t, stop(1, 1, { hs: 1 }), sync(SyncFilter.STOP, 1));
      if (csb.signal === 0n) skip('the copy ended before the stop was requested');
      await t.admin.completed(stopped);
      equal(context.state, STOP_SW, 'state');
      equal(csb.signal, 1n, 'signal of the copy');
      equal(context.readIndex, 1, 'Read_Index');
    },
    LONG,
  ),
  decision(
    'admin.cxt-upd.running',
    'CXT_UPD of a context that runs: from its next descriptor on the new entry counts',
    'S-108, ref §4.11',
    async (t) => {
      const { context, csb } = await longCopy(t);
      const second = t.csb();
      const target = t.mem.alloc('a destination', 64);
      // Without the new limit it would fail at the hole behind its first bytes.
      context.submit(withCsb(copy(target.iova, target.iova + 2 ** 28, 2 ** 21 + 1), second.iova));
      context.publish({ max_buffer: 0 });
      const updated = requestBoth(t, contextUpdate(1), sync(SyncFilter.CXT, 1));
      if (csb.signal === 0n) skip('the copy ended before the update was requested');
      await t.admin.completed(updated);
      await t.until(() => csb.signal === 0n && second.signal === 0n, 'completion of both copies');
      equal(csb.er, false, 'er of the copy before the update');
      equal(second.er, true, 'er of the copy that is too long now');
      await t.log.expect({ step: 7, sub: 3, context: 1, index: 1 });
    },
    LONG,
  ),
);
