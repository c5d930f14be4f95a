import type { FunctionConfig } from '../function/config.js';
import type { CompletionFault, DescriptorFault, FaultPort } from '../function/ports.js';
import { AdminOp, type ContextState, DescriptorType, DmaOp, Reg } from '../spec/index.js';
import type { Parameter } from './catalogue.js';
import { type PlannedFault, parseFaults } from './parse.js';

const ALL_ONES = 2n ** 64n - 1n;
const operation = (type: number, subtype: number): number => (type << 8) | subtype;
const COPY = operation(DescriptorType.DMAB, DmaOp.COPY);
const SYNC = operation(DescriptorType.ADMIN, AdminOp.SYNC);
const STARTS = [operation(DescriptorType.ADMIN, AdminOp.CXT_START_NM), operation(DescriptorType.ADMIN, AdminOp.CXT_START_RS)];

const IN_ORDER = ['F-4', 'F-13', 'F-15', 'F-19'];

/** One planned fault, and how often its moment has come. */
class Rule {
  readonly id: string;
  private readonly values: Readonly<Partial<Record<Parameter, number>>>;
  private seen = 0;
  private fired = 0;

  constructor({ fault, values }: PlannedFault) {
    this.id = fault.id;
    this.values = values;
  }

  value(name: 'ms' | 'value'): number {
    return this.values[name] ?? Number.POSITIVE_INFINITY;
  }

  /** Its moment has come: does it happen? */
  strikes(at: { context?: number; vector?: number } = {}): boolean {
    const { context, vector, after = 0, every = 1, count = Number.POSITIVE_INFINITY } = this.values;
    if (context !== undefined && at.context !== context) return false;
    if (vector !== undefined && at.vector !== vector) return false;
    this.seen++;
    if (this.seen <= after || (this.seen - after) % every !== 0 || this.fired >= count) return false;
    this.fired++;
    return true;
  }
}

/** A fault plan in force: what a function asks it at each turn. */
export class FaultPlan implements FaultPort {
  readonly text: string;
  /** Choices of the function that the plan asks for. */
  readonly config: Partial<FunctionConfig>;
  readonly vectors: number | undefined;
  /** Ids of the faults that are such choices. */
  readonly choices: readonly string[];
  private readonly rules: readonly Rule[];
  private readonly clock: () => number;

  /** @param clock milliseconds @throws ArgumentError as {@link parseFaults} */
  constructor(text: string, clock: () => number = () => performance.now()) {
    const planned = parseFaults(text);
    this.text = text;
    this.clock = clock;
    this.config = Object.assign({}, ...planned.map(({ fault }) => fault.config ?? {}));
    this.choices = planned.filter(({ fault }) => fault.config !== undefined).map(({ fault }) => fault.id);
    this.vectors = planned.find(({ fault }) => fault.vectors !== undefined)?.fault.vectors;
    this.rules = planned.filter(({ fault }) => fault.config === undefined).map((each) => new Rule(each));
  }

  /** Faults that hold a descriptor back in its ring, or come with one: they need one at a time. */
  get inOrderOnly(): readonly string[] {
    return this.rules.filter(({ id }) => IN_ORDER.includes(id)).map(({ id }) => id);
  }

  /** Something is to happen at run time; otherwise the plan was all choices of the function. */
  get active(): boolean {
    return this.rules.length > 0;
  }

  now(): number {
    return this.clock();
  }

  descriptor(context: number, code: number): DescriptorFault | undefined {
    for (const rule of this.rules) {
      if (rule.id === 'F-4' && rule.strikes({ context })) return { kind: 'hold', ms: rule.value('ms') };
      if (rule.id === 'F-13' && code === SYNC && rule.strikes({ context })) return { kind: 'hold', ms: rule.value('ms') };
      if (rule.id === 'F-46' && STARTS.includes(code) && rule.strikes({ context })) return { kind: 'refuse' };
      if (rule.id === 'F-47' && context !== 0 && rule.strikes({ context })) return { kind: 'error' };
      if (code !== COPY) continue;
      if ((rule.id === 'F-2' || rule.id === 'F-3') && rule.strikes({ context })) return { kind: 'fail' };
      if (rule.id === 'F-48' && rule.strikes({ context })) return { kind: 'half' };
    }
    return undefined;
  }

  /** What comes with a descriptor beside its own effect. */
  noise(context: number): 'interrupt' | 'record' | undefined {
    if (this.find('F-15', { context })) return 'interrupt';
    return this.find('F-19', { context }) ? 'record' : undefined;
  }

  completion(context: number): CompletionFault | undefined {
    for (const rule of this.rules) {
      if ((rule.id === 'F-1' || rule.id === 'F-43') && rule.strikes({ context })) return { kind: 'hold', ms: rule.value('ms') };
      if (rule.id === 'F-45' && context !== 0 && rule.strikes({ context })) return { kind: 'afterInterrupt' };
      if (rule.id === 'F-21' && rule.strikes({ context })) return { kind: 'overwrite' };
    }
    return undefined;
  }

  readIndex(context: number, index: number): number | undefined {
    if (this.find('F-5', { context })) return undefined;
    return index + (this.find('F-33', { context })?.value('value') ?? 0);
  }

  contextState(context: number, state: ContextState): number {
    return this.find('F-35', { context })?.value('value') ?? state;
  }

  interrupts(vector: number): number {
    return this.find('F-44', { vector })?.value('value') ?? 1;
  }

  register(offset: number, value: bigint): bigint {
    if (this.find('F-49')) return ALL_ONES;
    if (offset !== Reg.STS0) return value;
    const state = this.find('F-34')?.value('value');
    return state === undefined ? value : (value & ~7n) | BigInt(state & 7);
  }

  activationMs(): number | undefined {
    return (this.find('F-10') ?? this.find('F-22'))?.value('ms');
  }

  errorAfterActivationMs(): number | undefined {
    return this.find('F-14')?.value('ms');
  }

  lateResetMs(): number | undefined {
    return this.find('F-8')?.value('ms');
  }

  holdsSoftStop(): boolean {
    return this.find('F-9') !== undefined;
  }

  record(record: Uint32Array): 'lost' | 'ahead' | undefined {
    if (this.find('F-31')) return 'lost';
    const kind = this.find('F-32')?.value('value');
    if (kind === 0) record[0] &= ~1;
    if (kind === 1) record[0] ^= 0x0123_0000;
    return kind === 2 ? 'ahead' : undefined;
  }

  private find(id: string, at: { context?: number; vector?: number } = {}): Rule | undefined {
    return this.rules.find((rule) => rule.id === id && rule.strikes(at));
  }
}
