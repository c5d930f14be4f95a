import { SdxiError } from '../errors.js';
import {
  AdminOp,
  ContextState,
  DescriptorType,
  ErrorStep,
  FunctionState,
  type LiveCompletion,
  type LiveContext,
  type LiveCopies,
  type LiveOperation,
  type LiveRunning,
  type LiveState,
  MAX_INDEX,
  RING_MIN,
  SubStep,
} from '../spec/index.js';
import { COPIES_MAX, Table } from './cache.js';
import { RESERVED } from './reserved.js';

const U32 = 2 ** 32 - 1;
const NUMBER_MAX = 0xffff;
const CONTEXTS_MAX = NUMBER_MAX + 1;
/** A fault plan may hold back more than one of each context. */
const COMPLETIONS_MAX = 2 ** 20;
/** Addresses are what 64 bits of a table say, exact or not: beyond 2^53 nothing is mapped (S-103). */
const ADDRESS_MAX = 2 ** 64;
/** vl of an entry. */
const ENTRY_VALID = 1;

/** Dwords of an entry of each table. */
const ENTRY_WORDS: Readonly<Record<number, number>> = {
  [Table.L2]: RESERVED.CXT_L2_ENT.length,
  [Table.L1]: RESERVED.CXT_L1_ENT.length,
  [Table.CTL]: RESERVED.CXT_CTL.length,
  [Table.AKEY]: RESERVED.AKEY_ENT.length,
  [Table.RKEY]: RESERVED.RKEY_ENT.length,
};

/** What a load reads: lowest value, highest value, and what it must be a multiple of, so that structures lie inside their mappings. */
export const LOADED: Readonly<Record<string, readonly [number, number, number]>> = {
  ring: [0, ADDRESS_MAX, 64],
  ringSize: [RING_MIN, U32, 1],
  statusAddress: [0, ADDRESS_MAX, 16],
  writeIndexAddress: [0, ADDRESS_MAX, 8],
  akeyTable: [0, ADDRESS_MAX, 4096],
  akeyCount: [0, CONTEXTS_MAX, 1],
  l1MaxBuffer: [0, 15, 1],
  l1OpGroups: [0, U32, 1],
  qos: [0, 3, 1],
  sequential: [0, 1, 1],
  completionOverwrite: [0, 1, 1],
  structurePasid: [-1, 0xfffff, 1],
  dataPasid: [-1, 0xfffff, 1],
  tablePasid: [-1, 0xfffff, 1],
};

/** Those that can be in the middle of something when a function is saved (S-126). */
const WAITING = new Set<number>([AdminOp.CXT_START_NM, AdminOp.CXT_START_RS, AdminOp.SYNC]);

function bad(path: string): never {
  throw new SdxiError('ERR_SDXI_STATE', `the snapshot has no valid ${path}`, {
    hint: 'it was changed or cut short',
    fields: { name: path },
  });
}

type Fields = Record<string, unknown>;

function object(value: unknown, path: string): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : bad(path);
}

function list<T>(value: unknown, path: string, max: number, parse: (one: unknown, path: string) => T): T[] {
  if (!Array.isArray(value) || value.length > max) return bad(path);
  return value.map((one, i) => parse(one, `${path}[${i}]`));
}

function whole(value: unknown, path: string, low: number, high: number, multiple = 1): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high && value % multiple === 0
    ? value
    : bad(path);
}

function flag(value: unknown, path: string): boolean {
  return typeof value === 'boolean' ? value : bad(path);
}

function among<T>(value: unknown, path: string, known: readonly T[]): T {
  return known.includes(value as T) ? (value as T) : bad(path);
}

function optional<T>(value: unknown, parse: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : parse(value);
}

/** Nothing twice. */
function distinct(numbers: number[], path: string): void {
  if (new Set(numbers).size !== numbers.length) bad(path);
}

const context = (value: unknown, path: string): number => whole(value, path, 0, NUMBER_MAX);
const index = (value: unknown, path: string): number => whole(value, path, 0, MAX_INDEX - 1);

function running(value: unknown, path: string): LiveRunning {
  const from = object(value, path);
  const loaded = object(from.loaded, `${path}.loaded`);
  const state = among(from.state, `${path}.state`, [ContextState.RUN, ContextState.STOPG_SW, ContextState.STOPG_FN] as number[]);
  const stop = among(from.stop, `${path}.stop`, ['none', 'soft', 'hard'] as const);
  if ((state === ContextState.RUN) !== (stop === 'none')) bad(`${path}.stop`);
  return {
    state,
    stop,
    idle: flag(from.idle, `${path}.idle`),
    reload: flag(from.reload, `${path}.reload`),
    watched: flag(from.watched, `${path}.watched`),
    readIndex: index(from.readIndex, `${path}.readIndex`),
    concealed: optional(from.concealed, (it) => {
      const { shown, real } = object(it, `${path}.concealed`);
      return { shown: whole(shown, `${path}.concealed.shown`, -ADDRESS_MAX, ADDRESS_MAX), real: index(real, `${path}.concealed.real`) };
    }),
    loaded: Object.fromEntries(
      Object.entries(LOADED).map(([name, [low, high, multiple]]) => [
        name,
        whole(loaded[name], `${path}.loaded.${name}`, low, high, multiple),
      ]),
    ),
  };
}

function operation(value: unknown, path: string): LiveOperation {
  const from = object(value, path);
  const descriptor = list(from.descriptor, `${path}.descriptor`, 16, (word, at) => whole(word, at, 0, U32));
  const [header = 0, , range = 0] = descriptor;
  const known = ((header >>> 16) & 0x7ff) === DescriptorType.ADMIN && WAITING.has((header >>> 8) & 0xff);
  if (descriptor.length !== 16 || !known) bad(`${path}.descriptor`);
  return {
    descriptor,
    slotAddress: whole(from.slotAddress, `${path}.slotAddress`, 0, ADDRESS_MAX, 64),
    next: whole(from.next, `${path}.next`, range & 0xffff, Math.max(range & 0xffff, (range >>> 16) + 1)),
    failure: optional(from.failure, (it) => {
      const { step, subStep, context: number } = object(it, `${path}.failure`);
      return {
        step: among(step, `${path}.failure.step`, Object.values(ErrorStep) as number[]),
        subStep: among(subStep, `${path}.failure.subStep`, Object.values(SubStep) as number[]),
        context: context(number, `${path}.failure.context`),
      };
    }),
    virtual: whole(from.virtual, `${path}.virtual`, 0, 255),
  };
}

function contextState(value: unknown, path: string): LiveContext {
  const from = object(value, path);
  const number = context(from.number, `${path}.number`);
  const inRun = optional(from.running, (it) => running(it, `${path}.running`));
  const admin = optional(from.admin, (it) => operation(it, `${path}.admin`));
  if (admin !== undefined && (number !== 0 || inRun === undefined || inRun.idle)) bad(`${path}.admin`);
  return {
    number,
    queued: flag(from.queued, `${path}.queued`),
    rung: flag(from.rung, `${path}.rung`),
    loadFailureLogged: flag(from.loadFailureLogged, `${path}.loadFailureLogged`),
    running: inRun,
    admin,
  };
}

function completion(value: unknown, path: string): LiveCompletion {
  const { pasid, address, error } = object(value, path);
  return {
    pasid: whole(pasid, `${path}.pasid`, -1, 0xfffff),
    address: whole(address, `${path}.address`, 0, ADDRESS_MAX, 32),
    error: flag(error, `${path}.error`),
  };
}

function copies(value: unknown, path: string): LiveCopies {
  const from = object(value, path);
  const entries = list(from.entries, `${path}.entries`, COPIES_MAX * Object.keys(ENTRY_WORDS).length, (one, at) => {
    const [table, owner, entry, ...words] = list(one, at, 64, (number, where) => whole(number, where, 0, U32));
    if (words.length !== ENTRY_WORDS[table] || owner > NUMBER_MAX || entry > NUMBER_MAX || ((words[0] as number) & ENTRY_VALID) === 0)
      bad(at);
    return [table, owner, entry, ...words];
  });
  distinct(
    entries.map(([table, owner, entry]) => (table * CONTEXTS_MAX + owner) * CONTEXTS_MAX + entry),
    `${path}.entries`,
  );
  return {
    level2: whole(from.level2, `${path}.level2`, 0, ADDRESS_MAX, 4096),
    functionPasid: whole(from.functionPasid, `${path}.functionPasid`, -1, 0xfffff),
    entries,
  };
}

/** States in which contexts run. */
const BUSY = new Set<number>([FunctionState.ACTIVE, FunctionState.STOPG_SF, FunctionState.STOPG_HD]);

/**
 * The live part of a snapshot, with its fields in one order, after looking at every one of them: whatever stands there then, the function
 * that takes it over reaches nothing but mapped memory, and cannot be made to throw.
 * @throws SdxiError ERR_SDXI_STATE naming the field
 */
export function parseLive(value: unknown): LiveState {
  const from = object(value, 'live');
  const state = among(from.state, 'live.state', Object.values(FunctionState) as number[]);
  const early = list(from.early, 'live.early', CONTEXTS_MAX, context);
  const contexts = list(from.contexts, 'live.contexts', CONTEXTS_MAX, contextState);
  const resetAtStop = flag(from.resetAtStop, 'live.resetAtStop');
  distinct(early, 'live.early');
  distinct(
    contexts.map(({ number }) => number),
    'live.contexts',
  );
  if (early.length > 0 && state !== FunctionState.INIT) bad('live.early');
  if (contexts.length > 0 && !BUSY.has(state)) bad('live.contexts');
  if (resetAtStop && state !== FunctionState.STOPG_HD && state !== FunctionState.ERROR) bad('live.resetAtStop');
  return {
    state,
    initLeft: whole(from.initLeft, 'live.initLeft', -1, 1_000_000),
    resetAtStop,
    early,
    contexts,
    completions: list(from.completions, 'live.completions', COMPLETIONS_MAX, completion),
    copies: optional(from.copies, (it) => copies(it, 'live.copies')),
  };
}
