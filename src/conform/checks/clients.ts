import {
  ContextState,
  decodeRegister,
  encodeRegister,
  FunctionRequest,
  FunctionState,
  fromHex,
  MMIO_CTL0,
  MMIO_CTL2,
  MMIO_ERR_CFG,
  Reg,
} from '../../spec/index.js';
import { equal, requirement, section, skip } from '../check.js';
import type { TestContext } from '../context.js';
import { pattern } from '../memory.js';
import { copy, interrupt, nop, patched, start, stop, sync, withCsb } from '../program.js';
import type { Rig } from '../rig.js';

const { RUN, STOP_SW } = ContextState;
const ONE = { needs: ['context1'] } as const;

/** Reads, changes, writes: how drivers treat CTL0. */
function modify(t: Rig, fields: Readonly<Record<string, number>>): void {
  t.write(Reg.CTL0, encodeRegister(MMIO_CTL0, { ...decodeRegister(MMIO_CTL0, t.read(Reg.CTL0)), ...fields }));
}

/** Steps 1-9 of ref §11.3.1: the probe of v3. */
async function probe(t: Rig): Promise<TestContext> {
  const { INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR, STOP } = FunctionState;
  const state = t.functionState;
  if (state === INIT || state === ACTIVE) modify(t, { fn_gsr: FunctionRequest.STOP_SF });
  else if (state === STOPG_SF) modify(t, { fn_gsr: FunctionRequest.STOP_HD });
  else if (state !== STOPG_HD && state !== ERROR) modify(t, { fn_gsr: FunctionRequest.RESET });
  await t.functionBecomes(STOP);
  modify(t, { fn_err_intr_en: 0, fn_pasid_vl: 0, fn_pasid: 0 });
  const { maxBuffer, maxAkeySize, maxContext, opGroups } = t.caps;
  const limits = { max_buffer: maxBuffer, max_akey_sz: maxAkeySize, max_cxt: Math.min(127, maxContext), opb_000_avl: opGroups };
  t.write(Reg.CTL2, encodeRegister(MMIO_CTL2, limits));
  t.write(Reg.CXT_L2, t.l2.iova);
  t.admin = t.context(0, { state: RUN });
  equal(t.functionState, STOP, 'the function state');
  modify(t, { fn_gsr: FunctionRequest.ACTIVE });
  await t.functionBecomes(ACTIVE);
  t.doorbell(0, 0);
  return t.admin;
}

/** Runs one administrative descriptor as drivers do, and polls its block. */
async function administer(t: Rig, ...dscs: Uint8Array[]): Promise<void> {
  await t.admin.run(...dscs);
}

/** A channel of the dmaengine provider: context 1, AKey 0 for data and vector 1. ref §11.3.2 */
async function channel(t: Rig): Promise<TestContext> {
  const context = t.context(1);
  context.akey(0, { iv: 1, intr_num: 1 });
  await administer(t, start(1));
  return context;
}

/** The user self test of the prototype: NOP as in G9. */
const G9 = fromHex(`15010100${'00'.repeat(52)}0100000000000000`);

export const clientChecks = section(
  '11 Published drivers',
  requirement('client.v3.probe', 'the probe of v1 … v3', 'ref §11.3.1, O-7', async (t) => {
    await (await probe(t)).run(nop());
  }),
  requirement('client.v3.probe-again', 'the probe of v3 on a function that is ACTIVE', 'ref §11.3.1', async (t) => {
    await probe(t);
    await (await probe(t)).run(nop());
  }),
  requirement('client.v1.clear', 'v1, v2 and RFC clear CTL0 before anything else', 'ref §11.2, §11.3.1, O-8', async (t) => {
    const group = decodeRegister(MMIO_CTL0, t.read(Reg.CTL0)).fn_grp_id;
    await t.activate();
    t.write(Reg.CTL0, 0n);
    await t.functionBecomes(FunctionState.STOP);
    modify(t, { fn_grp_id: group });
    await (await probe(t)).run(nop());
  }),
  requirement(
    'client.v3.channel',
    'a channel is allocated: CXT_START.NM of a STOP_SW context, polled',
    'ref §11.3.2, O-15',
    async (t) => {
      await probe(t);
      const context = await channel(t);
      equal(context.state, RUN, 'state');
    },
    ONE,
  ),
  requirement(
    'client.v3.memcpy',
    'memcpy with interrupt: slots reserved at prepare, written at issue',
    'ref §11.3.2, O-18',
    async (t) => {
      await probe(t);
      const context = await channel(t);
      const source = t.mem.alloc('the source', 8192);
      const target = t.mem.alloc('the destination', 8192);
      source.put(0, pattern(8192));
      target.want(0, source.expected);
      const csb = t.csb();
      const first = context.claim(2);
      context.doorbell(first);
      await t.quiet(() => context.readIndex > 0, 'a reserved slot was passed');
      context.put(first, withCsb(copy(source.iova, target.iova, 8192, { fe: 1 }), csb.iova));
      context.put(first + 1, interrupt(0));
      context.doorbell();
      await t.interrupted(1);
      equal(csb.signal, 0n, 'signal when the interrupt is there');
      await context.completed(csb);
    },
    { needs: ['context1', 'interrupts'] },
  ),
  requirement(
    'client.v3.terminate',
    'terminate_all overwrites reserved slots with NOPs, synchronize polls a NOP',
    'ref §11.3.2',
    async (t) => {
      await probe(t);
      const context = await channel(t);
      const first = context.claim(4);
      for (let i = 0; i < 4; i++) context.put(first + i, nop());
      context.doorbell();
      await context.run(nop({ fe: 1 }));
      equal(context.readIndex, 5, 'Read_Index');
    },
    ONE,
  ),
  requirement(
    'client.v3.free',
    'a channel is freed: CXT_STOP, SYNC.STOP, entries withdrawn; and allocated anew',
    'ref §11.3.2, O-14, O-15',
    async (t) => {
      await probe(t);
      const context = await channel(t);
      await context.run(nop());
      await administer(t, stop(1), sync());
      context.withdraw();
      context.publishControl({ vl: 0 });
      const again = await channel(t);
      await again.run(nop());
    },
    { needs: ['context1'], options: ['cache'] },
  ),
  requirement(
    'client.v3.removal',
    'removal withdraws running contexts without stopping them, then stops the function',
    'ref §11.3.2',
    async (t) => {
      await probe(t);
      const context = await channel(t);
      await context.run(nop());
      context.status.ignore();
      context.withdraw();
      context.publishControl({ vl: 0 });
      modify(t, { fn_gsr: FunctionRequest.STOP_SF });
      await t.functionBecomes(FunctionState.STOP);
    },
    ONE,
  ),
  requirement('client.rfc.activate', 'RFC: CTL0 = 0, stop loop, error log, ACTIVE, doorbell 0', 'ref §11.2, O-6, O-8', async (t) => {
    const group = decodeRegister(MMIO_CTL0, t.read(Reg.CTL0)).fn_grp_id;
    t.write(Reg.CTL0, 0n);
    await t.functionBecomes(FunctionState.STOP);
    modify(t, { fn_grp_id: group });
    t.prepare();
    modify(t, { fn_err_intr_en: 1 });
    modify(t, { fn_gsr: FunctionRequest.ACTIVE });
    await t.functionBecomes(FunctionState.ACTIVE);
    t.doorbell(0, 0);
    await t.admin.run(nop());
  }),
  requirement(
    'client.rfc.context',
    'RFC: state RUN in memory, then CXT_START.NM without completion block',
    'ref §11.2, O-9',
    async (t) => {
      await t.activate();
      const context = t.context(1, { state: RUN, ctl: { se: 0, csa: 0 } });
      t.admin.submit(start(1));
      await t.admin.reached();
      await context.run(nop());
    },
    ONE,
  ),
  requirement('client.rfc.stop-self', 'RFC removal: context 0 stops itself, CXT_STS is polled', 'ref §11.2, O-13', async (t) => {
    await t.activate();
    t.admin.submit(stop(0));
    await t.admin.becomes(STOP_SW);
    modify(t, { fn_gsr: FunctionRequest.STOP_SF });
    await t.functionBecomes(FunctionState.STOP);
    t.write(Reg.ERR_CFG, 0n);
  }),
  requirement(
    'client.d22.activate',
    'the prototype: ACTIVE first, tables and CTL2 later, no doorbell for context 0',
    'ref §11.1.1, O-1, O-4, O-5, O-27',
    async (t) => {
      if (t.caps.maxContext === 0xffff) skip('CAP1.max_cxt has no room for one more');
      t.log.initialize();
      t.write(Reg.CXT_L2, t.l2.iova + 0xabc);
      t.write(Reg.ERR_CFG, encodeRegister(MMIO_ERR_CFG, { ptr: t.log.block?.iova, sz: 1, en: 1 }));
      t.write(Reg.ERR_CTL, 1n);
      modify(t, { fn_gsr: FunctionRequest.ACTIVE, fn_err_intr_en: 1 });
      await t.functionBecomes(FunctionState.ACTIVE);
      t.write(Reg.CTL2, encodeRegister(MMIO_CTL2, { ...decodeRegister(MMIO_CTL2, t.read(Reg.CTL2)), max_cxt: t.caps.maxContext + 1 }));
      const ctl = { se: 0, csa: 0 };
      t.admin = t.context(0, { state: RUN, ctl });
      const context = t.context(1, { state: RUN, ctl });
      t.admin.submit(start(1));
      await t.admin.reached();
      await context.run(nop());
    },
    ONE,
  ),
  requirement('client.d22.csb', 'the prototype arms 0xFF and wants exactly 0xFE', 'ref §11.1.3, O-11', async (t) => {
    const context = await t.worker();
    const source = t.mem.alloc('the source', 4096);
    const target = t.mem.alloc('the destination', 4096);
    source.put(0, pattern(4096));
    target.want(0, source.expected);
    const csb = t.csb(0xff);
    context.submit(withCsb(copy(source.iova, target.iova, 4096, { fe: 1 }), csb.iova));
    await t.until(() => csb.signal === 0xfen, 'signal 0xfe');
    await context.reached();
  }),
  requirement(
    'client.d22.self-test',
    'the self tests: 2,048 NOPs and 2,048 copies, Read_Index polled, data compared at once',
    'ref §11.1.5, O-20, O-21',
    async (t) => {
      const context = await t.worker();
      for (let i = 1; i <= 4; i++) {
        context.submit(...Array.from({ length: 512 }, () => G9));
        await context.reached(512 * i);
      }
      const source = t.mem.alloc('the source', 8);
      const target = t.mem.alloc('the destination', 8);
      for (let i = 0; i < 2048; i++) {
        source.putU64(0, i);
        target.want(0, source.expected);
        context.submit(patched(copy(source.iova, target.iova, 8), { 0: 0x14 }));
        if (!t.bus.spin(() => context.readIndex > 2048 + i, 1)) await context.reached();
        target.verify();
      }
      const large = [t.mem.alloc('a large source', 1_048_576), t.mem.alloc('a large destination', 1_048_576)];
      large[0].put(0, pattern(1_048_576));
      large[1].want(0, large[0].expected);
      context.submit(copy(large[0].iova, large[1].iova, 1_048_576));
      await context.reached();
      large[1].verify();
    },
    { options: ['readIndex'] },
  ),
);
