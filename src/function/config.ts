import { ArgumentError } from '../errors.js';

/**
 * What one function is: the capabilities it reports in CAP0 and CAP1 (SDXI 1.0 §9, ref §2.7, §2.8), and the choices that
 * ref §14.3 leaves open. Encoded fields hold the number that the register shows.
 */
export interface FunctionConfig {
  /** CAP0.sfunc, function handle, 1 … 65535; 0 means "local" in AKey entries and is never given (S-37). */
  sfunc: number;
  /** CTL0.fn_grp_id at power-on; 0 = no group (S-97). */
  groupId: number;
  /** CAP0.cs_cap, 0 … 3. Not 0: a descriptor's csr is honoured (S-14). */
  csCap: number;
  /** CAP0.db_stride: doorbells lie 4 KiB × 2^n apart, 0 … 7. */
  dbStride: number;
  /** CAP0.max_ds_ring_sz: rings hold at most 2^(n+10) descriptors, 0 … 31 (S-78). */
  maxRing: number;
  /** CAP0.max_rkey_sz: 2^(n+8) RKeys, 0 … 15. */
  maxRkey: number;
  /** CAP1.max_buffer: data buffers hold at most 2^(n+21) bytes, 0 … 15. */
  maxBuffer: number;
  /** CAP1.rkey_cap. */
  rkeyCap: boolean;
  /** CAP1.max_errlog_sz: 4 KiB × 2^n, 0 … 15 (S-6). */
  maxErrorLog: number;
  /** CAP1.max_akey_sz: 2^(n+8) AKeys, 0 … 8. */
  maxAkey: number;
  /** CAP1.max_cxt, highest context number, 0 … 65535. */
  maxContext: number;
  /** CAP1.opb_000_cap: optional operation groups, bit n for type n. */
  opGroups: number;
  /** Scheduler steps that the function spends in INIT. */
  initDelay: number;
  /** What the function keeps copies of (ref §4.11): nothing, entries until the next start, or entries until an update drops them. */
  cache: 'none' | 'start' | 'sticky';
  /** `early`: vl and Read_Index move before the descriptor executes (S-28, S-74). */
  readIndex: 'late' | 'early';
  /** `on`: unfenced descriptors complete out of order (S-105). */
  reorder: 'off' | 'on';
  /** What `reorder` chooses by: the same seed and the same inputs give the same order. */
  seed: number;
  /** `off`: descriptors keep vl when they are consumed (F-7). */
  clearValid: 'on' | 'off';
  /** How ERR_CFG.sz counts (S-6). */
  errlog: 'pages' | 'pagesMinus1';
  /** `on`: reserved bits of descriptors and table entries must be 0 (S-1). */
  strictReserved: 'off' | 'on';
  /** `on`: doorbells take 8-byte writes only (S-2). */
  strictDoorbell: 'off' | 'on';
  /** `on`: descriptors with ch = 1 are executed (S-16). */
  ignoreChain: 'off' | 'on';
  /** `on`: error records carry the operand's address and a reason (S-110). */
  vendorInfo: 'off' | 'on';
  /** `on`: a slot with vl = 0 is looked at again without a doorbell (ref §6.2). */
  pollInvalid: 'off' | 'on';
  /** `on`: CXT_CTL.qos weighs the turns; `off`: round robin (S-45). */
  qos: 'off' | 'on';
  /** Virtual functions, 0 … 255. Their handles follow `sfunc`, all else is as configured here (S-113). */
  vfs: number;
}

interface Rule {
  default: number | boolean | string;
  /** Inclusive range, list of words, or flag. */
  valid: readonly [number, number] | readonly string[] | 'boolean';
}

/** Handles have 16 bits. */
const SFUNC_MAX = 0xffff;

/** Defaults are S-104; the ranges are the widths of the register fields. */
const RULES: Record<keyof FunctionConfig, Rule> = {
  sfunc: { default: 1, valid: [1, SFUNC_MAX] },
  groupId: { default: 0, valid: [0, 0xffff_ffff] },
  csCap: { default: 0, valid: [0, 3] },
  dbStride: { default: 0, valid: [0, 7] },
  maxRing: { default: 22, valid: [0, 31] },
  maxRkey: { default: 8, valid: [0, 15] },
  maxBuffer: { default: 11, valid: [0, 15] },
  rkeyCap: { default: true, valid: 'boolean' },
  maxErrorLog: { default: 5, valid: [0, 15] },
  maxAkey: { default: 8, valid: [0, 8] },
  maxContext: { default: 63, valid: [0, 0xffff] },
  opGroups: { default: 0x18, valid: [0, 0xffff_ffff] },
  initDelay: { default: 0, valid: [0, 1_000_000] },
  cache: { default: 'none', valid: ['none', 'start', 'sticky'] },
  readIndex: { default: 'late', valid: ['late', 'early'] },
  reorder: { default: 'off', valid: ['off', 'on'] },
  seed: { default: 0, valid: [0, Number.MAX_SAFE_INTEGER] },
  clearValid: { default: 'on', valid: ['on', 'off'] },
  errlog: { default: 'pages', valid: ['pages', 'pagesMinus1'] },
  strictReserved: { default: 'off', valid: ['off', 'on'] },
  strictDoorbell: { default: 'off', valid: ['off', 'on'] },
  ignoreChain: { default: 'off', valid: ['off', 'on'] },
  vendorInfo: { default: 'off', valid: ['off', 'on'] },
  pollInvalid: { default: 'off', valid: ['off', 'on'] },
  qos: { default: 'off', valid: ['off', 'on'] },
  vfs: { default: 0, valid: [0, 255] },
};

const NAMES = Object.keys(RULES) as (keyof FunctionConfig)[];

function describe({ valid }: Rule): string {
  if (valid === 'boolean') return 'true or false';
  if (typeof valid[0] === 'number') return `a whole number from ${valid[0]} to ${valid[1]}`;
  return valid.join(' or ');
}

function isValid(value: unknown, { valid }: Rule): boolean {
  if (valid === 'boolean') return typeof value === 'boolean';
  if (typeof valid[0] === 'string') return (valid as readonly unknown[]).includes(value);
  return Number.isInteger(value) && (value as number) >= valid[0] && (value as number) <= (valid[1] as number);
}

/** The rule of an option; `toString` and its like are none. */
function ruleOf(name: string): Rule | undefined {
  return Object.hasOwn(RULES, name) ? RULES[name as keyof FunctionConfig] : undefined;
}

function check(name: string, value: unknown): void {
  const rule = ruleOf(name);
  if (!rule) {
    throw new ArgumentError(`there is no function option "${name}"`, {
      hint: `options are: ${NAMES.join(', ')}`,
      fields: { option: name },
    });
  }
  if (!isValid(value, rule)) {
    throw new ArgumentError(`function option ${name} cannot be ${String(value)}`, {
      hint: `${name} is ${describe(rule)}`,
      fields: { option: name, value },
    });
  }
}

/** A complete configuration from the parts that differ from the default (S-104). @throws ArgumentError naming option and valid values */
export function functionConfig(partial: Partial<FunctionConfig> = {}): FunctionConfig {
  const config = Object.fromEntries(NAMES.map((name) => [name, RULES[name].default])) as Record<string, unknown>;
  for (const [name, value] of Object.entries(partial)) {
    if (value === undefined) continue;
    check(name, value);
    config[name] = value;
  }
  const { sfunc, vfs } = config as unknown as FunctionConfig;
  if (sfunc + vfs > SFUNC_MAX) {
    throw new ArgumentError(`there are no handles for ${vfs} virtual functions behind sfunc ${sfunc}`, {
      hint: `handles end at ${SFUNC_MAX}: sfunc can be ${SFUNC_MAX - vfs} at most`,
      fields: { sfunc, vfs },
    });
  }
  return config as unknown as FunctionConfig;
}

/** The options of a URI's query: numbers decimal or 0x…, flags `1`/`0`/`true`/`false`. @throws ArgumentError */
export function parseFunctionOptions(params: URLSearchParams): Partial<FunctionConfig> {
  const partial: Record<string, unknown> = {};
  for (const [name, text] of params) {
    const rule = ruleOf(name);
    let value: unknown = text;
    if (rule?.valid === 'boolean') value = { true: true, '1': true, false: false, '0': false }[text] ?? text;
    else if (rule && typeof rule.valid[0] === 'number') value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : text;
    check(name, value);
    partial[name] = value;
  }
  return partial;
}
