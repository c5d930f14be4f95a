import { ContextState } from '../../spec/index.js';
import { type Check, decision, equal, holds, requirement, section } from '../check.js';
import type { TestContext } from '../context.js';
import { pattern } from '../memory.js';
import { copy, nop, stop, sync, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

const { RUN, STOP_SW, STOPG_SW, STOP_FN, STOPG_FN, ERR_FN } = ContextState;
const nops = (count: number) => Array.from({ length: count }, () => nop());

/** Fills the whole ring again and again; Read_Index never passes Write_Index and never goes back. */
async function laps(t: Rig, context: TestContext, count: number): Promise<void> {
  let last = context.readIndex;
  for (let lap = 0; lap < count; lap++) {
    const csb = t.csb();
    context.submit(...nops(context.entries - 1), withCsb(nop(), csb.iova));
    await t.until(() => {
      const index = context.readIndex;
      holds(index >= last && index <= context.claimed, `Read_Index ${index} after ${last}, Write_Index ${context.claimed}`);
      last = index;
      return csb.signal === 0n;
    }, 'completion of a full ring');
    await context.reached();
  }
}

function stateChecks(): Omit<Check, 'section'>[] {
  return [STOP_SW, STOPG_SW, STOP_FN, STOPG_FN, ERR_FN].map((state) =>
    requirement(
      `ring.doorbell-in-${state.toString(16)}`,
      `the doorbell of a context in state 0x${state.toString(16)} leads to nothing`,
      'S-33',
      async (t) => {
        await t.activate();
        const context = t.context(1, { state });
        context.submit(nop());
        await t.quiet(() => context.readIndex > 0, 'a context that does not run took a descriptor');
        equal(context.state, state, 'state');
      },
      { needs: ['context1'] },
    ),
  );
}

export const ringChecks = section(
  '6 Rings and contexts',
  requirement('ring.empty', 'the doorbell of an empty ring leads to nothing', 'ref §13.6 row 2', async (t) => {
    const context = await t.worker();
    context.doorbell(0);
    await t.quiet(() => context.readIndex > 0, 'Read_Index moved');
    equal(context.state, RUN, 'state');
  }),
  requirement(
    'ring.jump-start',
    'RUN in memory and a doorbell start any context',
    'O-10, ref §6.5',
    async (t) => {
      await t.activate();
      for (const number of [1, Math.min(2, t.caps.maxContext), t.caps.maxContext]) {
        if (number === t.caps.maxContext && number <= 2) continue;
        await t.running(number).run(nop());
      }
    },
    { needs: ['context1'] },
  ),
  stateChecks(),
  requirement('ring.in-order', 'descriptors are taken in order: copies that build on each other, fenced', 'ref §6.2, §6.3', async (t) => {
    const context = await t.worker();
    const blocks = Array.from({ length: 17 }, (_, i) => t.mem.alloc(`stage ${i}`, 4096));
    blocks[0].put(0, pattern(4096));
    for (const block of blocks.slice(1)) block.want(0, blocks[0].expected);
    await context.run(...blocks.slice(1).map((block, i) => copy(blocks[i].iova, block.iova, 4096, { fe: 1 })));
  }),
  decision(
    'ring.in-order.unfenced',
    'without fences a context works strictly in order',
    'ref §6.2',
    async (t) => {
      const context = await t.worker({ ctl: { se: 0 } });
      const target = t.mem.alloc('the destination', 64);
      for (let round = 0; round < 8; round++) {
        const sources = Array.from({ length: 32 }, (_, i) => t.mem.alloc(`source ${i}`, 64));
        sources.forEach((source, i) => {
          source.put(0, pattern(64, round * 32 + i + 1));
        });
        target.want(0, sources[31].expected);
        await context.run(...sources.map((source) => copy(source.iova, target.iova, 64)), nop({ fe: 1 }));
        target.verify();
      }
    },
    { options: ['reorder'] },
  ),
  requirement('ring.se', 'se = 1: writes of earlier descriptors come first', 'ref §6.3, §5.1', async (t) => {
    const context = await t.worker({ ctl: { se: 0 } });
    const target = t.mem.alloc('the destination', 4096);
    for (let round = 0; round < 8; round++) {
      const [first, last] = [0, 1].map((i) => t.mem.alloc(`source ${i}`, 4096));
      first.put(0, pattern(4096, 2 * round + 1));
      last.put(0, pattern(4096, 2 * round + 2));
      target.want(0, last.expected);
      await context.run(copy(first.iova, target.iova, 4096), copy(last.iova, target.iova, 4096, { se: 1 }), nop({ fe: 1 }));
      target.verify();
    }
  }),
  decision('ring.rb', 'rb = 1 fences as fe does', 'S-17', async (t) => {
    const context = await t.worker();
    const [a, b, c] = ['a', 'b', 'c'].map((name) => t.mem.alloc(name, 4096));
    a.put(0, pattern(4096));
    b.want(0, a.expected);
    c.want(0, a.expected);
    await context.run(copy(a.iova, b.iova, 4096), copy(b.iova, c.iova, 4096, { rb: 1 }));
  }),
  requirement(
    'ring.waits',
    'a slot with vl = 0 is waited for without an error, and so are valid ones behind it',
    'O-18, ref §6.1, §13.6 row 7',
    async (t) => {
      const context = await t.worker();
      const first = context.claim(3);
      context.put(first + 1, nop());
      context.put(first + 2, nop());
      context.doorbell();
      await t.quiet(() => context.readIndex > 0, 'an invalid slot was passed');
      equal(context.state, RUN, 'state');
      context.put(first, nop());
      context.doorbell();
      await context.reached();
    },
  ),
  requirement('ring.waits-often', 'doorbells of a context that waits for a slot do no harm', 'O-18, O-20', async (t) => {
    const context = await t.worker();
    const first = context.claim(1);
    for (let i = 0; i < 20; i++) context.doorbell();
    await t.quiet(() => context.readIndex > 0, 'an invalid slot was passed');
    context.put(first, nop());
    context.doorbell();
    await context.reached();
  }),
  decision(
    'ring.no-poll',
    'a slot that became valid waits for the next doorbell',
    'ref §6.2',
    async (t) => {
      const context = await t.worker();
      const first = context.claim(1);
      context.doorbell();
      await t.settle();
      context.put(first, nop());
      await t.quiet(() => context.readIndex > 0, 'the slot was taken without a doorbell');
      context.doorbell();
      await context.reached();
    },
    { options: ['pollInvalid'] },
  ),
  requirement('ring.claimed-ahead', 'Write_Index may be ahead of valid descriptors', 'ref §6.1', async (t) => {
    const context = await t.worker();
    const first = context.claim(context.entries);
    context.put(first, nop());
    context.doorbell();
    await context.reached(1);
    for (let i = 1; i < 10; i++) {
      context.put(first + i, nop());
      context.doorbell(i + 1);
      await context.reached(i + 1);
    }
  }),
  (
    [
      ['zero', () => 0],
      ['decreasing', (i: number) => 10 - i],
      ['repeated', () => 10],
      ['too-large', () => 1_000_000],
    ] as const
  ).map(([id, value]) =>
    (id === 'too-large' ? decision : requirement)(
      `ring.doorbell.${id}`,
      `doorbell values that are ${id.replace('-', ' ')}: Write_Index decides`,
      id === 'too-large' ? 'S-9' : 'O-20, ref §2.13',
      async (t) => {
        const context = await t.worker();
        const first = context.claim(10);
        for (let i = 0; i < 10; i++) context.put(first + i, nop());
        for (let i = 0; i < 10; i++) context.doorbell(value(i));
        await context.reached(10);
        await t.quiet(() => context.readIndex > 10, 'Read_Index passed Write_Index');
      },
    ),
  ),
  requirement('ring.one-doorbell', 'one doorbell serves any number of descriptors', 'ref §6.1', async (t) => {
    const context = await t.worker();
    await context.run(...nops(500));
  }),
  requirement('ring.full', 'a full ring of 1,024 descriptors', 'ref §6.1, §4.6', async (t) => laps(t, await t.worker(), 1)),
  requirement('ring.wraps', 'a ring that is filled three times', 'ref §6.1, §11.1', async (t) => laps(t, await t.worker(), 3)),
  requirement('ring.wraps-in-steps', 'a ring that wraps in the middle of batches', 'ref §6.1', async (t) => {
    const context = await t.worker();
    for (let i = 0; i < 12; i++) await context.run(...nops(300));
    equal(context.readIndex, 3600, 'Read_Index');
  }),
  requirement(
    'ring.vl-cleared',
    'vl is cleared when a descriptor is consumed, and nothing else changes',
    'O-19, ref §6.2',
    async (t) => {
      const context = await t.worker();
      await context.run(nop({ fe: 1 }), nop(), nop({ csr: 1 }));
      for (let i = 0; i < 3; i++) equal(context.valid(i), false, `vl of slot ${i}`);
    },
    { options: ['clearValid'] },
  ),
  requirement(
    'ring.vl-before-index',
    'vl of a slot is cleared before Read_Index passes it',
    'O-19, ref §6.2 step 7',
    async (t) => {
      const context = await t.worker();
      const csb = t.csb();
      context.submit(...nops(999), withCsb(nop({ fe: 1 }), csb.iova));
      await t.until(() => {
        const index = context.readIndex;
        for (let i = Math.max(0, index - 3); i < index; i++) holds(!context.valid(i), `slot ${i} still has vl, and Read_Index is ${index}`);
        return csb.signal === 0n;
      }, 'completion of 1,000 descriptors');
      await context.reached();
    },
    { options: ['clearValid'] },
  ),
  requirement(
    'ring.not-twice',
    'a slot that is claimed again and not written yet is not executed twice',
    'O-19, O-18, ref §6.2',
    async (t) => {
      const context = await t.worker();
      await context.run(...nops(1024));
      context.claim(5);
      context.doorbell();
      await t.quiet(() => context.readIndex > 1024, 'an old descriptor was executed again');
    },
    { options: ['clearValid'] },
  ),
  requirement(
    'ring.index-implies-data',
    'Read_Index behind a COPY means that its data is there',
    'O-21',
    async (t) => {
      const context = await t.worker();
      const source = t.mem.alloc('the source', 1_048_576);
      const target = t.mem.alloc('the destination', 1_048_576);
      for (let i = 0; i < 3; i++) {
        source.put(0, pattern(1_048_576, i + 1));
        target.want(0, source.expected);
        context.submit(copy(source.iova, target.iova, 1_048_576));
        await t.until(() => context.readIndex > i, 'Read_Index');
        target.verify();
      }
    },
    { options: ['readIndex'] },
  ),
  decision(
    'ring.index-after-signal',
    'Read_Index passes a descriptor after its completion',
    'S-28',
    async (t) => {
      const context = await t.worker();
      const source = t.mem.alloc('the source', 1_048_576);
      const target = t.mem.alloc('the destination', 1_048_576);
      source.put(0, pattern(1_048_576));
      target.want(0, source.expected);
      const csb = t.csb();
      context.submit(withCsb(copy(source.iova, target.iova, 1_048_576), csb.iova));
      await t.until(() => context.readIndex > 0, 'Read_Index');
      equal(csb.signal, 0n, 'signal when Read_Index has passed');
    },
    { options: ['readIndex'] },
  ),
  decision('ring.load-reads-index', 'an idle context takes Read_Index from memory when it is loaded', 'S-70', async (t) => {
    const context = await t.worker();
    await context.run(nop());
    await t.settle();
    context.status.putU64(8, 5);
    context.writeIndex.putU64(0, 5);
    context.claimed = 5;
    context.submit(nop());
    await context.reached(6);
  }),
  decision(
    'ring.load-drops',
    'a load that finds another state than RUN drops the context',
    'S-70',
    async (t) => {
      const context = await t.worker();
      await context.run(nop());
      await t.settle();
      context.state = STOP_SW;
      context.submit(nop());
      await t.quiet(() => context.readIndex > 1, 'a context in STOP_SW took a descriptor');
      context.jumpStart();
      await context.reached(2);
    },
    { needs: ['context1'] },
  ),
  requirement(
    'ring.restart',
    'a context that software restarts many times',
    'ref §6.5, O-22',
    async (t) => {
      await t.activate();
      const context = t.running(1);
      for (let i = 0; i < 10; i++) {
        await context.run(nop());
        await t.admin.run(stop(1), sync(1, 1));
        equal(context.state, STOP_SW, 'state');
        context.state = RUN;
      }
      equal(context.readIndex, 10, 'Read_Index');
    },
    { needs: ['context1'] },
  ),
  requirement(
    'contexts.independent',
    'contexts run beside each other',
    'ref §1',
    async (t) => {
      await t.activate();
      const contexts = [1, 2, 3].map((number) => t.running(number));
      const csbs = contexts.map((context) => {
        const csb = t.csb();
        context.submit(...nops(300), withCsb(nop({ fe: 1 }), csb.iova));
        return csb;
      });
      for (const [i, context] of contexts.entries()) await context.completed(csbs[i]);
      await t.admin.run(nop());
    },
    { needs: ['context3'] },
  ),
  requirement(
    'contexts.not-blocked',
    'a context that waits for a slot does not hold up others',
    'O-18',
    async (t) => {
      await t.activate();
      const waiting = t.running(1);
      waiting.claim(1);
      waiting.doorbell();
      await t.running(2).run(...nops(10));
    },
    { needs: ['context2'] },
  ),
  requirement(
    'contexts.all',
    'up to 40 contexts at once',
    'ref §2.8',
    async (t) => {
      await t.activate();
      const last = Math.min(t.caps.maxContext, 40);
      for (let number = 1; number <= last; number++) await t.running(number).run(nop(), nop());
    },
    { needs: ['context1'] },
  ),
);
