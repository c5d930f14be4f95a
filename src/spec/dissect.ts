/**
 * Bytes to readable form and back, for people and tools: `sdxi decode`, traces, error messages.
 */
import { ArgumentError, EncodeError } from '../errors.js';
import { nameOf } from './codes.js';
import { CST_BLK } from './completion.js';
import { CXT_CTL, CXT_L1_ENT, CXT_L2_ENT, CXT_STS, WRITE_INDEX } from './context.js';
import { DSC_GENERIC } from './descriptor.js';
import { ERRLOG_HD_ENT } from './errorlog.js';
import { AKEY_ENT, RKEY_ENT } from './keys.js';
import type { AnyLayout, AnyValue, Field } from './layout.js';
import { fromHex, toHex } from './layout.js';
import { DESCRIPTOR_BYTES } from './limits.js';
import { OPERATIONS, operationOf } from './operations.js';
import { REGISTERS } from './registers.js';

/** Plain data: numbers up to 32 bits, `0x…` strings above, byte runs and reserved bits as hexadecimal bytes in memory order. */
export type DissectedFields = Record<string, number | string>;

export interface Dissection {
  /** Canonical kind, one of {@link KINDS}. */
  kind: string;
  /** Name of a descriptor's operation; null for unknown ones and for everything that is no descriptor. */
  operation: string | null;
  fields: DissectedFields;
  /** The value encoded again: equal to the input, reserved bits included. */
  hex: string;
}

/** One field for people to read. */
export interface FieldDescription {
  name: string;
  /** Byte and bits, as in `0[26:16]`. */
  place: string;
  value: number | string;
  /** Name of the value, where the specification has one. */
  valueName?: string;
  meaning: string;
}

const DESCRIPTOR = 'descriptor';
const REGISTER_LAYOUTS: readonly AnyLayout[] = REGISTERS.map((r) => r.layout);
const STRUCTURES: readonly AnyLayout[] = [
  CXT_L2_ENT,
  CXT_L1_ENT,
  CXT_CTL,
  CXT_STS,
  WRITE_INDEX,
  AKEY_ENT,
  RKEY_ENT,
  CST_BLK,
  ERRLOG_HD_ENT,
];
const DESCRIPTOR_LAYOUTS: readonly AnyLayout[] = [DSC_GENERIC, ...new Set(OPERATIONS.map((op) => op.layout))];

/** `MMIO_CAP1` → `cap1`, `CXT_CTL` → `cxt_ctl`. */
function kindOf(of: AnyLayout): string {
  return of.name.toLowerCase().replace(/^mmio_/, '');
}

const LAYOUTS = new Map([...STRUCTURES, ...REGISTER_LAYOUTS, ...DESCRIPTOR_LAYOUTS].map((of) => [kindOf(of), of]));

/** Short names that people use; `cxt_l2` and `rkey` are the registers. */
const ALIASES: Readonly<Record<string, string>> = {
  dsc: DESCRIPTOR,
  desc: DESCRIPTOR,
  akey: 'akey_ent',
  csb: 'cst_blk',
  cxt_l1: 'cxt_l1_ent',
  errlog: 'errlog_hd_ent',
};

/** All kinds, canonical names: `descriptor` first, then structures, registers, and the single descriptor formats. */
export const KINDS: readonly string[] = [DESCRIPTOR, ...LAYOUTS.keys()];

/**
 * The canonical name of a kind: layout names in any case, with or without `MMIO_`, `-` for `_`, and a few short names.
 * @throws ArgumentError `ERR_SDXI_ARGUMENT` for an unknown kind
 */
export function canonicalKind(kind: string): string {
  const plain = kind
    .trim()
    .toLowerCase()
    .replace(/-/g, '_')
    .replace(/^mmio_/, '');
  const canonical = Object.hasOwn(ALIASES, plain) ? ALIASES[plain] : plain;
  if (canonical === DESCRIPTOR || LAYOUTS.has(canonical)) return canonical;
  throw new ArgumentError(`unknown kind ${kind}`, { fields: { kind }, hint: `kinds are ${KINDS.join(', ')}` });
}

/** True if the kind is a register, whose values people write as one number (`0x0000000700000013`) rather than as bytes in memory order. */
export function isRegisterKind(kind: string): boolean {
  const of = LAYOUTS.get(canonicalKind(kind));
  return of !== undefined && REGISTER_LAYOUTS.includes(of);
}

/** How many bytes a value of this kind has. */
export function bytesOfKind(kind: string): number {
  const canonical = canonicalKind(kind);
  return canonical === DESCRIPTOR ? DESCRIPTOR_BYTES : layoutNamed(canonical).byteLength;
}

function layoutNamed(canonical: string): AnyLayout {
  return LAYOUTS.get(canonical) as AnyLayout;
}

function isDescriptorLayout(of: AnyLayout): boolean {
  return DESCRIPTOR_LAYOUTS.includes(of);
}

/** The layout of these bytes: given by the kind, but for `descriptor` by type and subtype. */
function layoutOf(canonical: string, data: Uint8Array): AnyLayout {
  if (canonical !== DESCRIPTOR) return layoutNamed(canonical);
  const { type, subtype } = DSC_GENERIC.decode(data);
  return operationOf(type, subtype)?.layout ?? DSC_GENERIC;
}

function operationName(of: AnyLayout, values: Record<string, AnyValue>): string | null {
  if (!isDescriptorLayout(of)) return null;
  const op = operationOf(values.type as number, values.subtype as number);
  return op?.name ?? null;
}

function plain(value: AnyValue): number | string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (value instanceof Uint8Array) return toHex(value);
  return value as number | string;
}

/**
 * Bytes to readable form.
 *
 * @param kind one of {@link KINDS} or an alias, in any case
 * @param data exactly as many bytes as the kind has, in memory order
 * @throws ArgumentError `ERR_SDXI_ARGUMENT` for an unknown kind or a wrong length
 */
export function dissect(kind: string, data: Uint8Array): Dissection {
  const canonical = canonicalKind(kind);
  const of = layoutOf(canonical, data);
  const values = of.decode(data);
  const fields: DissectedFields = {};
  for (const [name, value] of Object.entries(values)) fields[name] = plain(value);
  return { kind: canonical, operation: operationName(of, values), fields, hex: toHex(of.encode(values)) };
}

/** The same as rows for people: place, value, name of the value, meaning. Reserved bits that are set come last. */
export function describeFields(kind: string, data: Uint8Array): FieldDescription[] {
  const of = layoutOf(canonicalKind(kind), data);
  const values = of.decode(data);
  const rows = Object.entries(of.fields).map(([name, field]): FieldDescription => {
    const value = values[name];
    const valueName = field.codes && typeof value === 'number' ? nameOf(field.codes, value) : undefined;
    return { name, place: placeOf(field), value: plain(value), valueName, meaning: field.meaning };
  });
  if (values.reserved !== undefined) {
    rows.push({
      name: 'reserved',
      place: `0[${of.byteLength * 8 - 1}:0]`,
      value: plain(values.reserved),
      meaning: 'reserved bits that are set',
    });
  }
  return rows;
}

function placeOf(field: Field): string {
  const { byte, highBit, lowBit } = field;
  return highBit === lowBit ? `${byte}[${highBit}]` : `${byte}[${highBit}:${lowBit}]`;
}

/** A field value as people and JSON give it: integers, decimal or `0x…` strings, names of codes, bytes as hexadecimal. */
function parse(name: string, field: Field | undefined, value: AnyValue): AnyValue {
  if (typeof value !== 'string' || field === undefined) return value;
  if (field.kind === 'bytes') return fromHex(value);
  if (field.codes && Object.hasOwn(field.codes, value)) return field.codes[value];
  if (/^(0x[0-9a-f]+|\d+)$/i.test(value)) return BigInt(value);
  throw new EncodeError(`${name}: not a number`, {
    fields: { field: name, value },
    hint: field.codes ? `give an integer or one of ${Object.keys(field.codes).join(', ')}` : 'give an integer, decimal or with 0x in front',
  });
}

/** The layout for fields of a descriptor, and the fields with type and subtype in place of an operation's name. */
function descriptorFields(fields: Readonly<Record<string, AnyValue>>): [AnyLayout, Record<string, AnyValue>] {
  const { operation, ...values } = fields;
  if (operation !== undefined) {
    const op = OPERATIONS.find((o) => o.name === operation);
    if (op === undefined) {
      throw new EncodeError(`no operation ${String(operation)}`, {
        fields: { field: 'operation', value: operation },
        hint: `operations are ${OPERATIONS.map((o) => o.name).join(', ')}`,
      });
    }
    return [op.layout, { ...values, type: op.type, subtype: op.subtype }];
  }
  const type = Number(parse('type', DSC_GENERIC.fields.type, values.type ?? 0));
  const subtype = Number(parse('subtype', DSC_GENERIC.fields.subtype, values.subtype ?? 0));
  return [operationOf(type, subtype)?.layout ?? DSC_GENERIC, values];
}

/**
 * Bytes from fields, the way back from {@link dissect}. Fields left out are zero bits. For the kind `descriptor`, `type` and `subtype`
 * choose the format, or instead of them `operation` with a name such as `COPY`.
 *
 * @throws ArgumentError `ERR_SDXI_ARGUMENT` for an unknown kind
 * @throws EncodeError `ERR_SDXI_ENCODE` for an unknown field or operation, or a value that does not fit
 */
export function assemble(kind: string, fields: Readonly<Record<string, AnyValue>>): Uint8Array {
  const canonical = canonicalKind(kind);
  const [of, given] = canonical === DESCRIPTOR ? descriptorFields(fields) : [layoutNamed(canonical), fields];
  const values: Record<string, AnyValue> = {};
  for (const [name, value] of Object.entries(given)) values[name] = parse(name, of.fields[name], value);
  return of.encode(values);
}
