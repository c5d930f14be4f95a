import { FunctionRequest, FunctionState, Reg } from '../../spec/index.js';
import { decision, equal, holds, requirement, section, skip } from '../check.js';
import { nop } from '../program.js';
import type { Rig } from '../rig.js';

const { RESET, STOP_SF, STOP_HD, ACTIVE } = FunctionRequest;

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

/** In INIT, or not for this function. */
function inInit(t: Rig): void {
  t.prepare();
  t.request(ACTIVE);
  if (t.functionState !== FunctionState.INIT) skip('the function does not stay in INIT long enough to be seen there');
}

export const stateChecks = section(
  '3 Function states',
  requirement('fn.activate', 'STOP → ACTIVE', 'ref §3.2, SDXI 1.0 §4.1.8', async (t) => {
    await t.activate();
  }),
  decision(
    'fn.activate.at-once',
    'the first look at STS0 after the request shows ACTIVE',
    'ref §3.3 rule 1, O-28',
    (t) => {
      t.prepare();
      t.request(ACTIVE);
      equal(t.functionState, FunctionState.ACTIVE, 'the function state');
    },
    { options: ['initDelay'] },
  ),
  requirement('fn.activate.no-tables', 'activation succeeds with CXT_L2 at an empty table', 'O-1', async (t) => {
    await t.activate({ admin: false });
  }),
  requirement('fn.activate.unmapped-tables', 'activation reads no table: CXT_L2 may point nowhere', 'O-1, ref §3.3 rule 4', async (t) => {
    t.log.initialize();
    t.write(Reg.CXT_L2, t.mem.hole);
    await restarts(t);
    await t.quiet(() => t.log.written !== 0n, 'an error record at activation');
  }),
  requirement('fn.activate.starts-nothing', 'activation makes no context run', 'ref §3.3 rule 5', async (t) => {
    t.prepare();
    t.admin.put(t.admin.claim(1), nop());
    await restarts(t);
    holds(!t.bus.spin(() => t.admin.readIndex > 0, 2), 'a context ran before its doorbell rang');
    t.admin.doorbell();
    await t.admin.reached();
  }),
  requirement('fn.activate.without-log', 'activation works without an error log', 'O-4', async (t) => {
    await t.activate({ log: false });
    await t.admin.run(nop());
  }),
  REQUESTS.flatMap(([name, request]) => [
    (name === 'reset' ? requirement : decision)(
      `fn.stop.${name}`,
      `STOP × ${name}: stays STOP`,
      name === 'reset' ? 'ref §3.2, O-7' : 'ref §3.2',
      (t) => {
        t.request(request);
        holds(!t.bus.spin(() => t.functionState !== FunctionState.STOP, 2), 'the function left STOP');
      },
    ),
    requirement(`fn.active.${name}`, `ACTIVE × ${name}: → STOP`, name === 'stop-hd' ? 'ref §3.2, §3.5' : 'ref §3.2, O-8', async (t) => {
      await t.activate();
      await stops(t, request);
    }),
    requirement(`fn.active.${name}.again`, `after ${name} the function can be started again`, 'ref §3.2, O-22', async (t) => {
      await t.activate();
      await stops(t, request);
      t.prepare();
      await restarts(t);
      t.admin.doorbell();
      await t.admin.run(nop());
    }),
    decision(
      `fn.init.${name}`,
      `INIT × ${name}: → STOP`,
      'ref §3.2',
      async (t) => {
        inInit(t);
        await stops(t, request);
      },
      { options: ['initDelay'] },
    ),
  ]),
  requirement('fn.active.active', 'ACTIVE × ACTIVE changes nothing', 'ref §3.2, O-6', async (t) => {
    const context = await t.worker();
    for (let i = 0; i < 3; i++) {
      t.request(ACTIVE);
      equal(t.functionState, FunctionState.ACTIVE, 'the function state');
    }
    await context.run(nop());
  }),
  requirement('fn.active.fields', 'writing CTL0 in ACTIVE with ACTIVE changes its other fields only', 'ref §2.3, O-6', async (t) => {
    const context = await t.worker();
    t.request(ACTIVE, { fn_err_intr_en: 0 });
    await context.run(nop());
    t.request(ACTIVE, { fn_err_intr_en: 1 });
    await context.run(nop());
  }),
  decision(
    'fn.init.active',
    'INIT × ACTIVE: goes on to ACTIVE',
    'ref §3.2',
    async (t) => {
      inInit(t);
      t.request(ACTIVE);
      await t.functionBecomes(FunctionState.ACTIVE);
    },
    { options: ['initDelay'] },
  ),
  requirement(
    'fn.init.doorbell',
    'a doorbell in INIT is acted upon in ACTIVE',
    'O-2, ref §2.13',
    async (t) => {
      t.prepare();
      t.admin.put(t.admin.claim(1), nop());
      t.request(ACTIVE);
      if (t.functionState !== FunctionState.INIT) skip('the function does not stay in INIT long enough to be seen there');
      t.admin.doorbell();
      await t.functionBecomes(FunctionState.ACTIVE);
      await t.admin.reached();
    },
    { options: ['initDelay'] },
  ),
  requirement('fn.stop.loop', 'repeated stop requests do no harm', 'O-6, ref §11.2', async (t) => {
    await t.activate();
    t.request(STOP_SF);
    await t.until(() => {
      const stopped = t.functionState === FunctionState.STOP;
      if (!stopped) t.request(STOP_SF);
      return stopped;
    }, 'GSV_STOP');
    t.request(STOP_SF);
    equal(t.functionState, FunctionState.STOP, 'the function state');
  }),
  requirement('fn.ctl0-zero', 'CTL0 = 0 in ACTIVE leads to STOP', 'O-8', async (t) => {
    const group = t.read(Reg.CTL0);
    await t.activate();
    t.write(Reg.CTL0, 0n);
    await t.functionBecomes(FunctionState.STOP);
    t.write(Reg.CTL0, group & ~0xffff_ffffn);
  }),
  requirement('fn.reset-in-stop.keeps', 'RESET in STOP changes no register', 'O-7, ref §3.3 rule 2', async (t) => {
    t.prepare();
    const all = () =>
      [Reg.CTL2, Reg.CXT_L2, Reg.RKEY, Reg.ERR_CTL, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_RD].map((offset) => t.read(offset)).join();
    const before = all();
    t.request(RESET);
    holds(!t.bus.spin(() => all() !== before, 2), 'a register changed');
  }),
  requirement(
    'fn.reset-in-stop.later',
    'RESET in STOP has no late effect on what is written afterwards',
    'O-7, ref §3.3 rule 2',
    async (t) => {
      t.request(RESET);
      const admin = await t.activate();
      await admin.run(nop());
      equal(t.read(Reg.CXT_L2), BigInt(t.l2.iova), 'CXT_L2');
      equal(t.functionState, FunctionState.ACTIVE, 'the function state');
    },
  ),
  decision('fn.reset.registers', 'RESET in ACTIVE restores the registers before STOP shows', 'ref §3.3 rule 3, S-11, S-89', async (t) => {
    await t.activate();
    await stops(t, RESET);
    for (const offset of [Reg.CXT_L2, Reg.RKEY, Reg.ERR_CTL, Reg.ERR_STS, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_RD]) {
      equal(t.read(offset), 0n, `register 0x${offset.toString(16)}`);
    }
    equal(t.read(Reg.CTL0) & 0xffff_fffcn, 0n, 'the other fields of CTL0');
  }),
  decision('fn.reset.group', 'RESET keeps fn_grp_id', 'ref §3.3 rule 3, S-11', async (t) => {
    const before = t.read(Reg.CTL0) & ~0xffff_ffffn;
    t.write(Reg.CTL0, 7n << 32n);
    await t.activate();
    await stops(t, RESET);
    const after = t.read(Reg.CTL0) & ~0xffff_ffffn;
    t.write(Reg.CTL0, before);
    equal(after, 7n << 32n, 'fn_grp_id');
  }),
);
