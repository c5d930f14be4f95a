import { openBus } from '../../bus/index.js';
import { type Context, type DmaBuffer, type Grant, SdxiDriver } from '../../driver/index.js';
import { ArgumentError, SdxiError } from '../../errors.js';
import { decodeRegister, encodeRegister, FunctionState, MMIO_CTL0, MMIO_RKEY, Reg } from '../../spec/index.js';
import { rates, type StepResult, timed } from './step.js';

const MIB = 2 ** 20;
const COPY_BYTES = 64 * MIB;
/** One descriptor each; a context moves in slices anyway. */
const PIECE_BYTES = 8 * MIB;
const PROBE_BYTES = 4096;
const GROUP = 7;
const TIMEOUT_MS = 3000;
/** No mapping reaches so far up. */
const NOWHERE = 2 ** 46;
/** What lies where nothing may be written. */
const UNTOUCHED = 0xcc;

/** A, B and C, functions of one group on threads of their own: B moves, A and C consent. */
export interface GroupStage {
  readonly a: SdxiDriver;
  readonly b: SdxiDriver;
  readonly c: SdxiDriver;
  /** The context of B that does the work. */
  readonly context: Context;
  readonly signal?: AbortSignal;
}

let groups = 0;

/** The same URI for each member of a group. @throws ArgumentError */
function memberUri(uri: string, fabric: string, sfunc: number): string {
  if (!uri.startsWith('embedded:')) {
    throw new ArgumentError(`a group cannot be made of ${uri}`, { hint: 'embedded functions find each other: --function embedded:' });
  }
  const query = new URLSearchParams(uri.replace(/^embedded:\??/, ''));
  for (const [name, value] of Object.entries({ fabric, groupId: GROUP, sfunc })) query.set(name, String(value));
  return `embedded:?${query}`;
}

/** Brings three functions of one group up. */
export async function openGroup(uri: string, signal?: AbortSignal): Promise<GroupStage> {
  const fabric = `demo-${process.pid}-${groups++}`;
  const drivers: SdxiDriver[] = [];
  try {
    for (let sfunc = 1; sfunc <= 3; sfunc++) {
      drivers.push(await SdxiDriver.open(await openBus(memberUri(uri, fabric, sfunc)), { signal }));
    }
    const [a, b, c] = drivers;
    return { a, b, c, context: await b.createContext(), signal };
  } catch (error) {
    for (const driver of drivers) await driver.close();
    throw error;
  }
}

export async function closeGroup({ a, b, c }: GroupStage): Promise<void> {
  await b.close();
  await a.close();
  await c.close();
}

/** What was brought up. */
export async function describeGroup({ a, b, c }: GroupStage): Promise<StepResult> {
  const members = [a, b, c].map(({ name, bus, capabilities: { sfunc } }, i) => ({ role: 'ABC'[i], name, sfunc, uri: bus.uri }));
  return {
    name: 'group',
    ok: [a, b, c].every((driver) => driver.state() === FunctionState.ACTIVE),
    what: `group ${GROUP}: ${members.map(({ role, name, sfunc }) => `${role} is ${name}, sfunc ${sfunc}`).join('; ')}`,
    remark: 'B does the work; A and C consent, each with an RKey of its own',
    details: { members },
  };
}

/** An AKey of B that names an RKey of another. */
function keyFor(context: Context, target: SdxiDriver, rkey: number, fields: { pv?: number; pasid?: number } = {}): number {
  return context.akeys.allocate({ tgt_sfunc: target.capabilities.sfunc, rkey, ...fields });
}

/** The requester's function copies from A's memory into C's: neither is its own. */
export async function copyBetweenOthers({ a, b, c, context, signal }: GroupStage): Promise<StepResult> {
  const to = b.capabilities.sfunc;
  const [source, target] = [a.allocate(COPY_BYTES, 4096), c.allocate(COPY_BYTES, 4096)];
  for (let at = 0; at < COPY_BYTES; at += 4) source.u32[at >>> 2] = Math.imul(at + 1, 0x9e37_79b1);
  target.bytes.fill(UNTOUCHED);
  const rkeys = [a.grant({ to }), c.grant({ to })];
  const keys = [keyFor(context, a, rkeys[0]), keyFor(context, c, rkeys[1])];
  try {
    const seconds = await timed(async () => {
      const batch = context.begin(COPY_BYTES / PIECE_BYTES, { bytes: COPY_BYTES });
      for (let at = 0; at < COPY_BYTES; at += PIECE_BYTES) {
        batch.copy(PIECE_BYTES, source.iova + at, target.iova + at, 0, keys[0], keys[1]);
      }
      await context.limit(batch.submit(), { timeoutMs: TIMEOUT_MS, signal });
    });
    const ok = source.bytes.equals(target.bytes);
    const cpuSeconds = await timed(() => target.bytes.set(source.bytes));
    return {
      name: 'three-party',
      ok,
      what: `B copies ${COPY_BYTES / MIB} MiB from A's memory into C's`,
      ...rates(COPY_BYTES, seconds, cpuSeconds),
      remark: ok ? undefined : 'a byte is wrong',
    };
  } finally {
    for (const key of keys) await context.updateKey(key, undefined);
    await a.revoke(rkeys[0]);
    await c.revoke(rkeys[1]);
    source.free();
    target.free();
  }
}

/** B raises an interrupt of C, at the vector that C has granted. */
export async function interruptAnother({ b, c, context, signal }: GroupStage): Promise<StepResult> {
  const vector = c.bus.vectors - 1;
  const rkey = c.grant({ to: b.capabilities.sfunc, vector });
  const key = keyFor(context, c, rkey);
  try {
    const before = c.bus.interruptCount(vector);
    const batch = context.begin(1);
    batch.interrupt(key);
    await context.limit(batch.submit(), { timeoutMs: TIMEOUT_MS, signal });
    const raised = c.bus.interruptCount(vector) - before;
    return { name: 'interrupt', ok: raised === 1, what: `B raises vector ${vector} of C`, details: { vector, raised } };
  } finally {
    await context.updateKey(key, undefined);
    await c.revoke(rkey);
  }
}

/** One way to be turned away. */
interface Refusal {
  readonly name: string;
  /** What C consents to; default B, its whole memory. */
  readonly grant?: Partial<Grant>;
  /** Fields of B's AKey that differ. */
  readonly akey?: { tgt_sfunc?: number; rkey?: number; pv?: number; pasid?: number };
  /** Is done to C, and undone. */
  readonly harm?: (stage: GroupStage, rkey: number) => Promise<(() => Promise<void>) | undefined>;
  /** An INTR instead of a COPY. */
  readonly interrupt?: true;
  /** Where the data goes; default a page of C's. */
  readonly destination?: number;
  /** Step and sub-step that the error log has to name. */
  readonly expected: string;
}

const FN_RKEY = 'FN_RKEY/DVF';

/** Writes a register of C, and puts back what was there. */
const withRegister =
  (offset: number, change: (value: bigint) => bigint): Refusal['harm'] =>
  async ({ c }) => {
    const value = c.bus.readRegister(offset);
    c.bus.writeRegister(offset, change(value));
    return async () => c.bus.writeRegister(offset, value);
  };

const inGroup = (fn_grp_id: number) => (value: bigint) => encodeRegister(MMIO_CTL0, { ...decodeRegister(MMIO_CTL0, value), fn_grp_id });
const withRkeys = (fields: { en?: number; ptr?: number }) => (value: bigint) =>
  encodeRegister(MMIO_RKEY, { ...decodeRegister(MMIO_RKEY, value), ...fields });

/** Ref §7.1 item 3 and 4, §7.2, check by check. */
const REFUSALS: readonly Refusal[] = [
  { name: 'no function answers to the handle', akey: { tgt_sfunc: 9 }, expected: FN_RKEY },
  { name: 'C is in another group', harm: withRegister(Reg.CTL0, inGroup(GROUP + 1)), expected: FN_RKEY },
  {
    name: 'C is stopped',
    harm: async ({ c }) => {
      await c.stop();
      return () => c.recover();
    },
    expected: FN_RKEY,
  },
  { name: 'C has not enabled remote keys', harm: withRegister(Reg.RKEY, withRkeys({ en: 0 })), expected: FN_RKEY },
  { name: "the RKey lies beyond C's table", akey: { rkey: 256 }, expected: FN_RKEY },
  { name: 'C has granted no such RKey', akey: { rkey: 200 }, expected: FN_RKEY },
  {
    name: 'C has revoked the RKey',
    harm: async ({ c }, rkey) => {
      await c.revoke(rkey);
      return undefined;
    },
    expected: FN_RKEY,
  },
  { name: 'the consent is for another function', grant: { to: 1 }, expected: FN_RKEY },
  { name: 'the AKey names a PASID, the RKey none', akey: { pv: 1, pasid: 5 }, expected: FN_RKEY },
  { name: 'the RKey names a PASID, the AKey none', grant: { pasid: 5 }, expected: FN_RKEY },
  { name: 'AKey and RKey name different PASIDs', grant: { pasid: 5 }, akey: { pv: 1, pasid: 6 }, expected: FN_RKEY },
  { name: "C's RKey table is not mapped", harm: withRegister(Reg.RKEY, withRkeys({ ptr: NOWHERE })), expected: 'FN_RKEY/ATF' },
  { name: 'C has not mapped the address', destination: NOWHERE, expected: 'DSC_BUF/ATF' },
  { name: 'C grants no interrupt', interrupt: true, expected: FN_RKEY },
  { name: 'C grants a vector that it does not have', interrupt: true, grant: { vector: 2047 }, expected: FN_RKEY },
];

/** What the error log said: `FN_RKEY/DVF`, or that it worked. */
async function attempt({ context, signal }: GroupStage, write: (batch: ReturnType<Context['begin']>) => void): Promise<string> {
  const batch = context.begin(1);
  write(batch);
  try {
    await context.limit(batch.submit(), { timeoutMs: TIMEOUT_MS, signal });
    return 'let through';
  } catch (error) {
    const { step, subStep } = (error instanceof SdxiError ? error.fields : undefined) ?? {};
    if (step === undefined) throw error;
    return `${step}/${subStep}`;
  }
}

async function refuse(stage: GroupStage, refusal: Refusal, source: DmaBuffer, target: DmaBuffer) {
  const { b, c, context } = stage;
  const rkey = c.grant({ to: b.capabilities.sfunc, ...refusal.grant });
  const akey = context.akeys.allocate({ tgt_sfunc: c.capabilities.sfunc, rkey, ...refusal.akey });
  const vectors = () => Array.from({ length: c.bus.vectors }, (_, vector) => c.bus.interruptCount(vector)).join();
  let undo: (() => Promise<void>) | undefined;
  let revoked = false;
  try {
    const before = vectors();
    undo = await refusal.harm?.(stage, rkey);
    revoked = refusal.harm !== undefined && undo === undefined;
    const found = await attempt(stage, (batch) =>
      refusal.interrupt ? batch.interrupt(akey) : batch.copy(PROBE_BYTES, source.iova, refusal.destination ?? target.iova, 0, 0, akey),
    );
    const untouched = target.bytes.every((byte) => byte === UNTOUCHED) && (!refusal.interrupt || vectors() === before);
    return { name: refusal.name, expected: refusal.expected, found, untouched, ok: found === refusal.expected && untouched };
  } finally {
    await undo?.();
    await context.recover();
    await context.updateKey(akey, undefined);
    if (!revoked) await c.revoke(rkey);
  }
}

/** Every check between B and memory of C, each made to fail by itself: the right error, and nothing written. */
export async function refuseEach(stage: GroupStage): Promise<StepResult> {
  const [source, target] = [stage.b.allocate(PROBE_BYTES, 4096), stage.c.allocate(PROBE_BYTES, 4096)];
  try {
    source.bytes.fill(0xbb);
    target.bytes.fill(UNTOUCHED);
    const refusals = [];
    for (const refusal of REFUSALS) refusals.push(await refuse(stage, refusal, source, target));
    const wrong = refusals.filter(({ ok }) => !ok);
    return {
      name: 'refused',
      ok: wrong.length === 0,
      what: `${refusals.length} remote accesses that lack something`,
      remark: refusals
        .map(({ ok, name, found, untouched }) => `${ok ? '✓' : '✗'} ${name}: ${found}${untouched ? '' : ', and something was touched'}`)
        .join('\n  '),
      details: { refusals },
    };
  } finally {
    source.free();
    target.free();
  }
}
