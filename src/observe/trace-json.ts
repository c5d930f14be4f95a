/**
 * A trace as text: one JSON object a line for everything that happens in a function, decoded. docs/trace.md describes each line. Properties
 * and events may be added; those that are there keep name and meaning.
 */
import { Access } from '../memory/address-space.js';
import {
  type AnyLayout,
  type AnyValue,
  type CodeTable,
  ContextState,
  DSC_GENERIC,
  ERRLOG_HD_ENT,
  type Field,
  FunctionState,
  nameOf,
  operationOf,
  REGISTERS,
  type Register,
  registerBytes,
  toHex,
} from '../spec/index.js';
import type { Tracer } from './tracer.js';

/** Events in the order of docs/trace.md. */
export const TRACE_EVENTS = [
  'register-read',
  'register-write',
  'doorbell',
  'descriptor',
  'completion',
  'interrupt',
  'function-state',
  'context-state',
  'error-record',
  'map',
  'unmap',
  'flr',
] as const;
export type TraceEvent = (typeof TRACE_EVENTS)[number];

/** A field of up to 32 bits is a number, or the name that the specification has for its value; all else is a string. */
export type TraceFields = Record<string, number | string>;

export interface JsonTracerOptions {
  /** Name of the function, as it is to stand in each line. */
  readonly name: string;
  /** Milliseconds of any clock that goes forward, such as `performance.now`. */
  clock(): number;
  /** Gets each line, without an end of line. Must not throw or block, and must not use the function. */
  sink(line: string): void;
}

const REGISTER_AT: ReadonlyMap<number, Register> = new Map(REGISTERS.map((register) => [register.offset, register]));
/** BAR 0 consists of registers of 8 bytes. Ref §2.2. */
const REGISTER_BYTES = 8;

/** 64-bit values are strings: a JSON number is exact below 2^53 only. */
function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function plain(field: Field, value: AnyValue): number | string {
  if (value instanceof Uint8Array) return toHex(value);
  if (typeof value === 'bigint') return hex(value);
  return field.codes === undefined ? (value as number) : nameOf(field.codes, value as number);
}

/** First and last bit of a field, counted from the start of its structure. */
function bitsOf({ byte, lowBit, highBit }: Field): [first: number, last: number] {
  return [8 * byte + lowBit, 8 * byte + highBit];
}

/** The fields that lie wholly in the bytes from `from` up to `to`; bits of no field that are set, if that is everything. */
function fieldsOf(of: AnyLayout, bytes: Uint8Array, from = 0, to = of.byteLength): TraceFields {
  const values = of.decode(bytes);
  const fields: TraceFields = {};
  for (const [name, field] of Object.entries(of.fields)) {
    const [first, last] = bitsOf(field);
    if (first >= 8 * from && last < 8 * to) fields[name] = plain(field, values[name]);
  }
  if (values.reserved !== undefined && from === 0 && to === of.byteLength) fields.reserved = values.reserved as string;
  return fields;
}

/** `read`, `write`, or `read-write`. */
function accessName(access: number): string {
  if (access === Access.READ) return 'read';
  return access === Access.WRITE ? 'write' : 'read-write';
}

/** Makes a line of each event and gives it to a sink. One for each function; a function without a tracer is faster. */
export class JsonTracer implements Tracer {
  private readonly options: JsonTracerOptions;
  private sequence = 0;

  constructor(options: JsonTracerOptions) {
    this.options = options;
  }

  registerRead(offset: number, size: number, value: bigint): void {
    this.register('register-read', offset, size, value);
  }

  registerWrite(offset: number, size: number, value: bigint): void {
    this.register('register-write', offset, size, value);
  }

  doorbell(context: number, value: number): void {
    this.line('doorbell', { context, value: hex(value) });
  }

  descriptor(context: number, index: number, bytes: Uint8Array): void {
    const { type, subtype } = DSC_GENERIC.decode(bytes);
    const operation = operationOf(type, subtype);
    const fields = fieldsOf(operation?.layout ?? DSC_GENERIC, bytes);
    this.line('descriptor', { context, index: hex(index), operation: operation?.name ?? null, fields });
  }

  completion(context: number, index: number, error: boolean): void {
    this.line('completion', { context, index: hex(index), error });
  }

  interrupt(vector: number): void {
    this.line('interrupt', { vector });
  }

  functionState(state: number): void {
    this.state('function-state', {}, FunctionState, state);
  }

  contextState(context: number, state: number): void {
    this.state('context-state', { context }, ContextState, state);
  }

  errorRecord(record: Uint8Array): void {
    this.line('error-record', { fields: fieldsOf(ERRLOG_HD_ENT, record) });
  }

  /** Memory was made known to the function. @param address where it sees it @param access bits of `Access` */
  map(address: number | bigint, byteLength: number | bigint, access: number): void {
    this.line('map', { address: hex(address), bytes: hex(byteLength), access: accessName(access) });
  }

  /** Memory was taken away from it, and no access is in flight any more (S-102). */
  unmap(address: number | bigint, byteLength: number | bigint): void {
    this.line('unmap', { address: hex(address), bytes: hex(byteLength) });
  }

  /** The function was reset through its transport (S-46, S-107). */
  flr(): void {
    this.line('flr', {});
  }

  private register(event: TraceEvent, offset: number, size: number, value: bigint): void {
    const inside = offset % REGISTER_BYTES;
    // A driver under test may ask for anything, also for what no bus would carry.
    const register = Number.isInteger(offset) && inside >= 0 ? REGISTER_AT.get(offset - inside) : undefined;
    const place = { register: register?.name ?? null, offset: hex(offset), size, value: hex(value) };
    if (register === undefined) {
      this.line(event, place);
      return;
    }
    const bytes = registerBytes(value << BigInt(8 * inside));
    const fields = fieldsOf(register.layout, bytes, inside, Math.min(inside + size, REGISTER_BYTES));
    this.line(event, { ...place, fields });
  }

  private state(event: TraceEvent, who: object, codes: CodeTable, state: number): void {
    this.line(event, { ...who, state: nameOf(codes, state) });
  }

  private line(event: TraceEvent, rest: object): void {
    const { name, clock, sink } = this.options;
    const ms = Math.round(clock() * 1000) / 1000;
    sink(JSON.stringify({ seq: ++this.sequence, ms, function: name, event, ...rest }));
  }
}
