import { ArgumentError, SdxiError } from '../../errors.js';
import { FaultPlan } from '../../fault/index.js';
import { type FunctionConfig, functionConfig, parseFunctionOptions } from '../../function/config.js';
import type { Tracer } from '../../observe/tracer.js';
import { VECTORS_MAX } from '../../spec/limits.js';

/** What an embedded bus can be told besides its URI, which wins. */
export interface EmbeddedOptions {
  /** The function's capabilities and choices, as far as they differ from the default. */
  config?: Partial<FunctionConfig>;
  /** Interrupt vectors, 2 … 2048 (O-29); default one per context and two more. */
  vectors?: number;
  /** How long a register access may take before the engine counts as dead; default 2000. */
  registerTimeoutMs?: number;
  /** How long the engine thread may take to start; default 20000. */
  startTimeoutMs?: number;
  /**
   * Name of what connects functions that are opened by one thread: those of one group (`groupId`, not 0) reach each other there under
   * remote keys. Default: the function is alone.
   */
  fabric?: string;
  /** Fault plan: `F-2:every=10,context=3;F-44`. Ref §12; `sdxi fault --list` shows what there is. */
  faults?: string;
  /** Program of the engine thread in place of the one that was built: for a suite that is tried out on wrong functions. @internal */
  engine?: URL;
  /** Sees what happens inside the function; inline buses only. */
  tracer?: Tracer;
}

/** The same with nothing left open. */
export interface EmbeddedSettings {
  readonly uri: string;
  readonly inline: boolean;
  readonly config: FunctionConfig;
  readonly vectors: number;
  readonly registerTimeoutMs: number;
  readonly startTimeoutMs: number;
  readonly fabric?: string;
  /** The virtual function that the URI names. */
  readonly vf?: number;
  readonly faults: FaultPlan;
  readonly engine?: URL;
  readonly tracer?: Tracer;
}

/** Options of the URI that concern the bus; all others are the function's. */
const BUS_OPTIONS = ['inline', 'vectors', 'registerTimeoutMs', 'startTimeoutMs', 'fabric', 'faults'] as const;

/** Node's timers end here. */
const LONGEST_MS = 2 ** 31 - 1;

/** Reads `embedded:[?option=value&…][#vf1]`. @throws ArgumentError for an option that does not exist or cannot have that value, SdxiError ERR_SDXI_URI */
export function embeddedSettings(uri: string, options: EmbeddedOptions = {}): EmbeddedSettings {
  const match = /^embedded:(?:\?([^#]*))?(?:#vf([1-9]\d{0,2}))?$/.exec(uri);
  if (!match) {
    throw new SdxiError('ERR_SDXI_URI', `"${uri}" is not the URI of an embedded function`, {
      hint: 'write embedded: or embedded:?option=value&option=value; embedded:?vfs=4#vf1 is the first of four virtual functions',
      fields: { uri },
    });
  }
  const query = new URLSearchParams(match[1] ?? '');
  const own = new Map<string, string>();
  for (const name of BUS_OPTIONS) {
    const text = query.get(name);
    if (text !== null) own.set(name, text);
    query.delete(name);
  }
  const faults = new FaultPlan(own.get('faults') ?? options.faults ?? '');
  const config = functionConfig(withFaults({ ...options.config, ...functionOptions(query) }, faults));
  const vf = match[2] === undefined ? undefined : virtualNumber(uri, Number(match[2]), config.vfs);
  const fabric = fabricName(own.get('fabric') ?? options.fabric);
  if (fabric !== undefined && config.vfs > 0) {
    throw new ArgumentError('a function with virtual functions cannot be in a fabric', {
      hint: 'leave out fabric or vfs; a physical function and its virtual ones reach each other without one (groupId)',
      fields: { fabric, vfs: config.vfs },
    });
  }
  const inline = own.get('inline') ?? '0';
  if (!['0', '1', 'true', 'false'].includes(inline)) wrong('inline', inline, '1 or 0');
  return {
    uri,
    inline: inline === '1' || inline === 'true',
    config,
    vectors: whole(
      'vectors',
      own.get('vectors') ?? options.vectors ?? faults.vectors ?? Math.min(config.maxContext + 3, VECTORS_MAX),
      2,
      VECTORS_MAX,
    ),
    registerTimeoutMs: whole('registerTimeoutMs', own.get('registerTimeoutMs') ?? options.registerTimeoutMs ?? 2000, 1, LONGEST_MS),
    startTimeoutMs: whole('startTimeoutMs', own.get('startTimeoutMs') ?? options.startTimeoutMs ?? 20_000, 1, LONGEST_MS),
    fabric,
    vf,
    faults,
    engine: options.engine,
    tracer: options.tracer,
  };
}

function functionOptions(query: URLSearchParams): Partial<FunctionConfig> {
  try {
    return parseFunctionOptions(query);
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    const hint = `${error.hint ?? ''}; options of the bus: ${BUS_OPTIONS.join(', ')}`;
    throw new ArgumentError(error.message, { hint, fields: error.fields, cause: error });
  }
}

function fabricName(name: unknown): string | undefined {
  if (name === undefined || (typeof name === 'string' && /^[\w.-]{1,64}$/.test(name))) return name;
  return wrong('fabric', name, 'a name of letters, digits, dots, dashes and underscores, 64 of them at most');
}

function virtualNumber(uri: string, vf: number, vfs: number): number {
  if (vf <= vfs) return vf;
  throw new ArgumentError(`${uri} has no virtual function ${vf}`, {
    hint: vfs === 0 ? `give it some: embedded:?vfs=${vf}#vf${vf}` : `it has 1 … ${vfs}`,
    fields: { vf, vfs },
  });
}

/** The URI of virtual function `number` of the function that `uri` names, or of that one itself with 0. */
export function memberUri(uri: string, number: number): string {
  const [physical] = uri.split('#');
  return number === 0 ? physical : `${physical}#vf${number}`;
}

function wrong(option: string, value: unknown, valid: string): never {
  throw new ArgumentError(`bus option ${option} cannot be ${String(value)}`, { hint: `${option} is ${valid}`, fields: { option, value } });
}

function whole(option: string, given: string | number, low: number, high: number): number {
  const value = typeof given === 'string' && /^\d+$/.test(given) ? Number(given) : given;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < low || value > high)
    wrong(option, given, `a whole number from ${low} to ${high}`);
  return value as number;
}

/** The options with the choices that a plan makes. @throws ArgumentError when they are made otherwise */
function withFaults(explicit: Partial<FunctionConfig>, { config, choices, inOrderOnly }: FaultPlan): Partial<FunctionConfig> {
  for (const [name, value] of Object.entries(config)) {
    const given = explicit[name as keyof FunctionConfig];
    if (given !== undefined && given !== value) {
      throw new ArgumentError(`${name} cannot be ${String(given)} under the faults ${choices.join(', ')}`, {
        hint: `they make it ${String(value)}: leave out ${name}, or the fault`,
        fields: { option: name, value: given },
      });
    }
  }
  const all = { ...config, ...explicit };
  if (all.reorder === 'on' && inOrderOnly.length > 0) {
    throw new ArgumentError(`${inOrderOnly.join(', ')} cannot be had together with reorder=on (F-39)`, {
      hint: 'descriptors in flight together cannot be held back one by one: leave one of the two out',
    });
  }
  return all;
}

/**
 * A plan for a function that is open already.
 * @throws ArgumentError for a plan that cannot be read, SdxiError ERR_SDXI_STATE for a fault that is a choice of the function
 */
export function faultsWhileOpen(text: string, opened: FaultPlan): FaultPlan {
  const plan = new FaultPlan(text);
  const late = plan.choices.filter((id) => !opened.choices.includes(id));
  if (late.length === 0) return plan;
  throw new SdxiError('ERR_SDXI_STATE', `${late.join(', ')} cannot be put in force while the function is open`, {
    hint: `it is a choice of the function: open it with embedded:?faults=${late.join(';')}`,
    fields: { faults: late },
  });
}
