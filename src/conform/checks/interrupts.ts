import { INTR_NUM_MAX, Reg } from '../../spec/index.js';
import { decision, equal, holds, requirement, section, skip } from '../check.js';
import { pattern } from '../memory.js';
import { copy, interrupt, nop, withCsb } from '../program.js';

const NEEDS = { needs: ['interrupts'] } as const;

export const interruptChecks = section(
  '5.5 Interrupts',
  requirement(
    'intr.raises',
    'INTR raises the vector of its AKey, once',
    'ref §5.5, SDXI 1.0 table 6-12',
    async (t) => {
      const context = await t.worker();
      const vector = t.caps.vectors - 1;
      context.akey(1, { iv: 1, intr_num: vector });
      await context.run(interrupt(1));
      await t.interrupted(vector);
      await t.quiet(() => t.delivered(vector) > 1, 'the interrupt came twice');
      if (vector > 0) equal(t.delivered(0), 0, 'interrupts on vector 0');
    },
    NEEDS,
  ),
  requirement(
    'intr.every-vector',
    'every vector works, 0 included',
    'O-17',
    async (t) => {
      const context = await t.worker();
      const vectors = Array.from({ length: Math.min(t.caps.vectors, 200) }, (_, vector) => vector);
      for (const vector of vectors) context.akey(vector, { iv: 1, intr_num: vector });
      await context.run(...vectors.map((vector) => interrupt(vector)));
      for (const vector of vectors) await t.interrupted(vector);
      for (const vector of vectors) equal(t.delivered(vector), 1, `interrupts on vector ${vector}`);
    },
    NEEDS,
  ),
  requirement('intr.two-vectors', 'there are at least two vectors', 'O-29', (t) => {
    holds(t.caps.vectors >= 2, `there are ${t.caps.vectors} vectors`);
  }),
  requirement(
    'intr.counts',
    'ten INTR are ten interrupts',
    'ref §5.5',
    async (t) => {
      const context = await t.worker();
      context.akey(1, { iv: 1, intr_num: 1 });
      for (let i = 1; i <= 10; i++) {
        await context.run(interrupt(1));
        await t.interrupted(1, i);
      }
      equal(t.delivered(1), 10, 'interrupts');
    },
    NEEDS,
  ),
  requirement(
    'intr.after-csb',
    'an INTR with fe comes after the completion of all before it',
    'ref §6.3, §5.5',
    async (t) => {
      const context = await t.worker();
      context.akey(1, { iv: 1, intr_num: 1 });
      const source = t.mem.alloc('the source', 65_536);
      const target = t.mem.alloc('the destination', 65_536);
      source.put(0, pattern(65_536));
      target.want(0, source.expected);
      for (let i = 1; i <= 10; i++) {
        const csb = t.csb();
        context.submit(withCsb(copy(source.iova, target.iova, 65_536, { fe: 1 }), csb.iova), interrupt(1));
        await t.interrupted(1, i);
        equal(csb.signal, 0n, 'signal when the interrupt is there');
        target.verify();
        await context.reached();
      }
    },
    NEEDS,
  ),
  requirement(
    'intr.one-key-two-roles',
    'one AKey serves interrupts and data',
    'ref §4.7',
    async (t) => {
      const context = await t.worker();
      context.akey(0, { iv: 1, intr_num: 1 });
      const source = t.mem.alloc('the source', 64);
      const target = t.mem.alloc('the destination', 64);
      source.put(0, pattern(64));
      target.want(0, source.expected);
      await context.run(copy(source.iova, target.iova, 64), interrupt(0));
      await t.interrupted(1);
    },
    NEEDS,
  ),
  requirement(
    'intr.csb',
    'an INTR may have a completion block',
    'ref §5.1',
    async (t) => {
      const context = await t.worker();
      context.akey(1, { iv: 1, intr_num: 1 });
      const csb = t.csb(3);
      context.submit(withCsb(interrupt(1), csb.iova));
      await t.interrupted(1);
      await context.reached();
      equal(csb.signal, 2n, 'signal');
    },
    NEEDS,
  ),
  requirement(
    'intr.masked',
    'a masked vector is remembered, and delivered when it is unmasked',
    'ref §9',
    async (t) => {
      const context = await t.worker();
      context.akey(1, { iv: 1, intr_num: 1 });
      t.bus.maskInterrupt(1);
      await context.run(interrupt(1));
      await t.until(() => t.bus.interruptPending(1), 'pending bit');
      equal(t.delivered(1), 0, 'interrupts on a masked vector');
      t.bus.unmaskInterrupt(1);
      await t.interrupted(1);
      equal(t.delivered(1), 1, 'interrupts');
    },
    NEEDS,
  ),
  requirement(
    'intr.iv-0',
    'an AKey without iv: step 11',
    'ref §7.2, §5.5',
    async (t) => {
      await (await t.worker()).fails(interrupt(0), { step: 11, sub: 3, operand: 0 });
    },
    NEEDS,
  ),
  requirement(
    'intr.invalid-key',
    'an AKey that is not valid: step 11',
    'ref §7.1, §5.5',
    async (t) => {
      const context = await t.worker();
      context.akey(3, { iv: 1, intr_num: 1, vl: 0 });
      await context.fails(interrupt(3), { step: 11, sub: 3, operand: 0 });
    },
    NEEDS,
  ),
  decision(
    'intr.no-such-vector',
    'a vector that the function does not have: step 11',
    'ref §5.5, S-94',
    async (t) => {
      if (t.caps.vectors > INTR_NUM_MAX) skip('the function has every vector that an AKey can name');
      const context = await t.worker();
      context.akey(1, { iv: 1, intr_num: t.caps.vectors });
      await context.fails(interrupt(1), { step: 11, sub: 3, operand: 0 });
    },
    NEEDS,
  ),
  requirement(
    'intr.not-after-error',
    'an INTR behind a failed descriptor is not executed',
    'ref §6.4, §13.6 row 5',
    async (t) => {
      const context = await t.worker();
      context.akey(1, { iv: 1, intr_num: 1 });
      const csb = t.csb();
      context.submit(withCsb(nop({ subtype: 0x7f }), csb.iova), interrupt(1));
      await t.log.expect({ step: 7, sub: 3, context: context.number, index: 0 });
      await t.quiet(() => t.delivered(1) > 0, 'an interrupt behind a failed descriptor');
      equal(context.readIndex, 1, 'Read_Index');
    },
    NEEDS,
  ),
  decision(
    'intr.group-off.l1',
    'without the group in the level-1 entry INTR fails',
    'ref §5.2, S-7',
    async (t) => {
      const context = await t.worker({ l1: { opb_000_enb: 0 } });
      context.akey(1, { iv: 1, intr_num: 1 });
      await context.fails(interrupt(1), { step: 7, sub: 3 });
    },
    NEEDS,
  ),
  decision(
    'intr.group-off.ctl2',
    'without the group in CTL2.opb_000_avl INTR fails',
    'ref §2.5, §5.2, S-7',
    async (t) => {
      t.write(Reg.CTL2, t.read(Reg.CTL2) & 0xffff_ffffn);
      const context = await t.worker();
      context.akey(1, { iv: 1, intr_num: 1 });
      await context.fails(interrupt(1), { step: 7, sub: 3 });
    },
    NEEDS,
  ),
  decision('intr.group-missing', 'a function without the group refuses INTR', 'ref §5.2, S-7', async (t) => {
    if ((t.caps.opGroups >> 4) & 1) skip('CAP1.opb_000_cap offers the interrupt group');
    const context = await t.worker({ l1: { opb_000_enb: 0xffff_ffff } });
    context.akey(1, { iv: 1, intr_num: 1 });
    await context.fails(interrupt(1), { step: 7, sub: 3 });
  }),
);
