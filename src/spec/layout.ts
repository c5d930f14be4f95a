/**
 * Structures as readable tables: the slow, exact half of what `spec/` says twice. Types, the dissector, documentation and random generators
 * come from these tables; the flyweights and encoders with literal offsets are the fast half, and tests prove that both agree.
 */
import { ArgumentError, EncodeError } from '../errors.js';
import type { CodeTable } from './codes.js';

type FieldKind = 'number' | 'bigint' | 'bytes';

/** One field of a structure: where it lies, and what it means. */
export interface Field<K extends FieldKind = FieldKind> {
  /** `number` up to 32 bits wide, `bigint` above, `bytes` for a run of bytes. */
  readonly kind: K;
  /** First byte of the word in which the bits are counted. */
  readonly byte: number;
  /** Highest and lowest bit inside that little-endian word, as the specification's tables give them. */
  readonly highBit: number;
  readonly lowBit: number;
  readonly meaning: string;
  /** A pointer: the value is the byte address, with the bits below `lowBit` zero. ref §0.2. */
  readonly address: boolean;
  /** Added to the stored bits to get the value: 1 for sizes, which are stored as bytes - 1. */
  readonly bias: number;
  /** Names of the values, where the specification names them. */
  readonly codes?: CodeTable;
}

export type Fields = Readonly<Record<string, Field>>;

type ValueOf<F> = F extends Field<'bytes'> ? Uint8Array : F extends Field<'bigint'> ? bigint : number;
type InputOf<F> = F extends Field<'bytes'> ? Uint8Array : number | bigint;

/** All bits that no field names, as hexadecimal bytes in memory order and as long as the structure; absent when they are all 0. */
type Reserved = { reserved?: string };

/** Decoded field values. */
export type Values<F extends Fields> = { [K in keyof F]: ValueOf<F[K]> } & Reserved;

/** Field values to encode; fields left out are encoded as zero bits. */
export type Input<F extends Fields> = { [K in keyof F]?: InputOf<F[K]> } & Reserved;

export type AnyValue = number | bigint | Uint8Array | string | undefined;

/** A layout whose fields are not known at compile time. */
export interface AnyLayout {
  /** The specification's name, such as `CXT_CTL`. */
  readonly name: string;
  readonly byteLength: number;
  /** Where the specification and the reference describe it. */
  readonly section: string;
  readonly fields: Fields;
  /** 1 for each bit that no field names, in memory order. */
  readonly reservedBits: Uint8Array;
  /**
   * Bytes from field values.
   * @throws EncodeError `ERR_SDXI_ENCODE` for an unknown field, a value that does not fit, or a pointer that is not aligned
   */
  encode(values: Readonly<Record<string, AnyValue>>): Uint8Array;
  /**
   * Field values from bytes; `encode` of the result gives the same bytes back, whatever they were.
   * @throws ArgumentError `ERR_SDXI_ARGUMENT` when the length is not `byteLength`
   */
  decode(bytes: Uint8Array): Record<string, AnyValue>;
}

/** A structure of the specification. */
export interface Layout<F extends Fields = Fields> extends AnyLayout {
  readonly fields: F;
  encode(values: Input<F>): Uint8Array;
  decode(bytes: Uint8Array): Values<F>;
}

function field<K extends FieldKind>(
  kind: K,
  byte: number,
  highBit: number,
  lowBit: number,
  meaning: string,
  extra: { address?: boolean; bias?: number; codes?: CodeTable } = {},
): Field<K> {
  return { kind, byte, highBit, lowBit, meaning, address: extra.address ?? false, bias: extra.bias ?? 0, codes: extra.codes };
}

/** Up to 32 bits, counted inside the little-endian word that starts at `byte`. */
export function bits(byte: number, highBit: number, lowBit: number, meaning: string, codes?: CodeTable): Field<'number'> {
  if (highBit - lowBit >= 32) throw new ArgumentError(`bits ${highBit}:${lowBit} are more than 32: use u64 or address`);
  return field('number', byte, highBit, lowBit, meaning, { codes });
}

export function u8(byte: number, meaning: string, codes?: CodeTable): Field<'number'> {
  return bits(byte, 7, 0, meaning, codes);
}

export function u16(byte: number, meaning: string): Field<'number'> {
  return bits(byte, 15, 0, meaning);
}

export function u32(byte: number, meaning: string): Field<'number'> {
  return bits(byte, 31, 0, meaning);
}

export function u64(byte: number, meaning: string): Field<'bigint'> {
  return field('bigint', byte, 63, 0, meaning);
}

/** A 64-bit pointer whose bits below `lowBit` belong to flags: masked, not shifted (ref §0.2). */
export function address(byte: number, lowBit: number, meaning: string): Field<'bigint'> {
  return field('bigint', byte, 63, lowBit, meaning, { address: true });
}

/** A size of 1 byte to 4 GiB, stored as bytes - 1 in 32 bits; the value is the number of bytes. ref §5.1. */
export function size(byte: number, meaning: string): Field<'number'> {
  return field('number', byte, 31, 0, meaning, { bias: 1 });
}

export function bytes(byte: number, length: number, meaning: string): Field<'bytes'> {
  return field('bytes', byte, length * 8 - 1, 0, meaning);
}

/** First and last byte that a field touches. */
function span(f: Field): [first: number, last: number] {
  return [f.byte + (f.lowBit >> 3), f.byte + (f.highBit >> 3)];
}

/** The bits of a field in place, as an integer over the bytes of its span. */
function maskOf(f: Field): bigint {
  return ((1n << BigInt(f.highBit - f.lowBit + 1)) - 1n) << BigInt(f.lowBit & 7);
}

function readLittle(data: Uint8Array, first: number, last: number): bigint {
  let value = 0n;
  for (let i = last; i >= first; i--) value = (value << 8n) | BigInt(data[i]);
  return value;
}

function orLittle(data: Uint8Array, first: number, last: number, value: bigint): void {
  for (let i = first; i <= last; i++) data[i] |= Number((value >> BigInt(8 * (i - first))) & 0xffn);
}

export function toHex(data: Uint8Array): string {
  let text = '';
  for (const b of data) text += b.toString(16).padStart(2, '0');
  return text;
}

/**
 * Bytes from hexadecimal digits; white space, `_` and `:` between them are skipped, `0x` in front too.
 * @throws ArgumentError `ERR_SDXI_ARGUMENT` for anything else, or an odd number of digits
 */
export function fromHex(text: string): Uint8Array {
  const digits = text.replace(/^\s*0x/i, '').replace(/[\s_:]+/g, '');
  if (digits.length % 2 !== 0 || /[^0-9a-f]/i.test(digits)) {
    throw new ArgumentError('not hexadecimal bytes', {
      fields: { text: text.slice(0, 160) },
      hint: 'give two hexadecimal digits for each byte, in memory order; spaces are allowed',
    });
  }
  const data = new Uint8Array(digits.length / 2);
  for (let i = 0; i < data.length; i++) data[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return data;
}

/** Marks the bits of all fields, and refuses a table in which two of them share a bit or one leaves the structure. */
function usedBits(name: string, byteLength: number, fields: Fields): Uint8Array {
  const used = new Uint8Array(byteLength);
  for (const [key, f] of Object.entries(fields)) {
    const [first, last] = span(f);
    if (key === 'reserved' || last >= byteLength) throw new ArgumentError(`${name}.${key} has no place in ${byteLength} bytes`);
    const mask = maskOf(f);
    if (readLittle(used, first, last) & mask) throw new ArgumentError(`${name}.${key} overlaps another field`);
    orLittle(used, first, last, mask);
  }
  return used;
}

function refuse(layoutName: string, name: string, value: AnyValue, why: string, hint: string): never {
  throw new EncodeError(`${layoutName}.${name}: ${why}`, { fields: { layout: layoutName, field: name, value }, hint });
}

/** The stored bits of a value, in place over the bytes of its field's span. */
function storedBits(layoutName: string, name: string, f: Field, value: AnyValue): bigint {
  if (typeof value !== 'bigint' && !(typeof value === 'number' && Number.isSafeInteger(value))) {
    return refuse(layoutName, name, value, 'not an integer', 'give a number below 2^53 or a bigint');
  }
  const width = f.highBit - f.lowBit + 1;
  const lowest = BigInt(f.bias);
  const unit = f.address ? 1n << BigInt(f.lowBit) : 1n;
  const highest = f.address ? (1n << 64n) - unit : (1n << BigInt(width)) - 1n + lowest;
  const number = BigInt(value);
  if (number < lowest || number > highest) {
    refuse(layoutName, name, value, 'out of range', `allowed are 0x${lowest.toString(16)} to 0x${highest.toString(16)}`);
  }
  if (number % unit !== 0n) refuse(layoutName, name, value, 'not aligned', `align the address to ${unit} bytes`);
  return ((number - lowest) / unit) << BigInt(f.lowBit & 7);
}

/**
 * A structure of the specification as a table.
 *
 * @param section where the specification and the reference describe it
 * @param fields in the specification's order; bits that no field names are reserved
 */
export function layout<const F extends Fields>(name: string, byteLength: number, section: string, fields: F): Layout<F> {
  const used = usedBits(name, byteLength, fields);
  const entries = Object.entries(fields) as [string, Field][];

  function encode(values: Readonly<Record<string, AnyValue>>): Uint8Array {
    const data = new Uint8Array(byteLength);
    for (const key of Object.keys(values)) {
      if (!Object.hasOwn(fields, key) && key !== 'reserved') {
        refuse(name, key, values[key], 'no such field', `fields are ${Object.keys(fields).join(', ')}`);
      }
    }
    for (const [key, f] of entries) {
      const value = values[key];
      if (value === undefined) continue;
      const [first, last] = span(f);
      if (f.kind !== 'bytes') {
        orLittle(data, first, last, storedBits(name, key, f, value));
      } else if (value instanceof Uint8Array && value.length <= last - first + 1) {
        data.set(value, first);
      } else {
        refuse(name, key, value, 'not bytes that fit', `give a Uint8Array of at most ${last - first + 1} bytes`);
      }
    }
    if (values.reserved !== undefined) orReserved(data, values.reserved);
    return data;
  }

  function orReserved(data: Uint8Array, text: AnyValue): void {
    const extra = typeof text === 'string' ? fromHex(text) : new Uint8Array(0);
    if (extra.length !== byteLength) refuse(name, 'reserved', text, 'wrong length', `give ${byteLength} bytes in hexadecimal`);
    for (let i = 0; i < byteLength; i++) data[i] |= extra[i] & ~used[i];
  }

  function decode(data: Uint8Array): Record<string, AnyValue> {
    if (data.length !== byteLength) {
      throw new ArgumentError(`${name} has ${byteLength} bytes, not ${data.length}`, {
        fields: { layout: name, length: data.length },
        hint: `give exactly ${byteLength} bytes`,
      });
    }
    const values: Record<string, AnyValue> = {};
    for (const [key, f] of entries) {
      const [first, last] = span(f);
      if (f.kind === 'bytes') {
        values[key] = data.slice(first, last + 1);
        continue;
      }
      const inPlace = readLittle(data, first, last) & maskOf(f);
      const stored = inPlace >> BigInt(f.lowBit & 7);
      if (f.kind === 'number') values[key] = Number(stored) + f.bias;
      else values[key] = f.address ? stored << BigInt(f.lowBit) : stored;
    }
    const rest = data.map((b, i) => b & ~used[i]);
    if (rest.some((b) => b !== 0)) values.reserved = toHex(rest);
    return values;
  }

  return { name, byteLength, section, fields, reservedBits: used.map((b) => ~b), encode, decode } as Layout<F>;
}
