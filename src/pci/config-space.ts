/**
 * Configuration space as a table of registers and their fields, and the bytes behind it. What software can change follows from the table
 * alone; what a change means is up to `pci-function.ts`.
 */
import { ArgumentError } from '../errors.js';

/** Bytes of the configuration space of a PCI Express function. PCIe 6.0 §7.2.2. */
export const CONFIG_BYTES = 4096;

/**
 * What software can do with a field. RO: read; RW: write; RW1C: clear by writing 1; RW1A: reads 0, and a written 1 is an action.
 * Bits that no field names read 0 and ignore writes. PCIe 6.0 §7.4.
 */
export type ConfigAccess = 'RO' | 'RW' | 'RW1C' | 'RW1A';

/** Some bits of a register. */
export interface ConfigField {
  readonly highBit: number;
  readonly lowBit: number;
  readonly access: ConfigAccess;
  /** Value after reset, counted from `lowBit`. */
  readonly reset: bigint;
  readonly meaning: string;
}

export type ConfigFields = Readonly<Record<string, ConfigField>>;

/** One register. */
export interface ConfigRegister<F extends ConfigFields = ConfigFields> {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  /** Section of the PCI Express Base Specification 6.0, or where else it is described. */
  readonly section: string;
  readonly fields: F;
}

const fieldOf =
  (access: ConfigAccess) =>
  (highBit: number, lowBit: number, reset: number | bigint, meaning: string): ConfigField => ({
    highBit,
    lowBit,
    access,
    reset: BigInt(reset),
    meaning,
  });

/** Fields by what software can do with them: high bit, low bit, reset value, meaning. */
export const ro = fieldOf('RO');
export const rw = fieldOf('RW');
export const rw1c = fieldOf('RW1C');
export const rw1a = fieldOf('RW1A');

export function register<const F extends ConfigFields>(
  name: string,
  offset: number,
  bytes: number,
  section: string,
  fields: F,
): ConfigRegister<F> {
  return { name, offset, bytes, section, fields };
}

/** The bits of a field in place. */
function maskOf(field: ConfigField): bigint {
  return ((1n << BigInt(field.highBit - field.lowBit + 1)) - 1n) << BigInt(field.lowBit);
}

/** The bits of a register that have one of these kinds of access. */
export function bitsOf(of: ConfigRegister, ...access: ConfigAccess[]): bigint {
  return Object.values(of.fields).reduce((bits, field) => (access.includes(field.access) ? bits | maskOf(field) : bits), 0n);
}

/** Value of a register after reset. */
export function resetOf(of: ConfigRegister): bigint {
  return Object.values(of.fields).reduce((bits, field) => bits | (field.reset << BigInt(field.lowBit)), 0n);
}

/** A table in bytes: what each bit is after reset, and what software can do with it. */
export interface ByteMasks {
  readonly reset: Uint8Array;
  readonly writable: Uint8Array;
  readonly clearable: Uint8Array;
}

/** Refuses a table that contradicts itself: it is written by hand. */
function checkRegister(of: ConfigRegister, taken: Uint8Array): void {
  const refuse = (why: string): never => {
    throw new ArgumentError(`${of.name} at 0x${of.offset.toString(16)}: ${why}`);
  };
  if (of.offset < 0 || of.offset + of.bytes > taken.length) refuse('outside');
  for (let at = of.offset; at < of.offset + of.bytes; at++) {
    if (taken[at]) refuse('overlaps another register');
    taken[at] = 1;
  }
  let used = 0n;
  for (const [name, field] of Object.entries(of.fields)) {
    const mask = maskOf(field);
    if (field.lowBit < 0 || field.highBit < field.lowBit || field.highBit >= of.bytes * 8) refuse(`${name} has no place`);
    if (used & mask) refuse(`${name} overlaps another field`);
    if ((field.reset << BigInt(field.lowBit)) & ~mask) refuse(`${name} cannot hold its reset value`);
    used |= mask;
  }
}

/**
 * What a table means for each byte.
 * @throws ArgumentError when registers or fields overlap, leave their place, or cannot hold their reset value
 */
export function masksOf(registers: readonly ConfigRegister[], length: number): ByteMasks {
  const masks = { reset: new Uint8Array(length), writable: new Uint8Array(length), clearable: new Uint8Array(length) };
  const taken = new Uint8Array(length);
  for (const of of registers) {
    checkRegister(of, taken);
    putLittle(masks.reset, of.offset, of.bytes, resetOf(of));
    putLittle(masks.writable, of.offset, of.bytes, bitsOf(of, 'RW'));
    putLittle(masks.clearable, of.offset, of.bytes, bitsOf(of, 'RW1C'));
  }
  return masks;
}

/** What becomes of one byte that software writes. */
export function written(old: number, byte: number, writable: number, clearable: number): number {
  return ((old & ~writable) | (byte & writable)) & ~(byte & clearable);
}

export function putLittle(data: Uint8Array, offset: number, bytes: number, value: bigint): void {
  for (let i = 0; i < bytes; i++) data[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
}

export function getLittle(data: Uint8Array, offset: number, bytes: number): bigint {
  let value = 0n;
  for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[offset + i]);
  return value;
}

/** @throws ArgumentError for an access that leaves its region */
export function checkAccess(region: string, size: number, offset: number, length: number): void {
  if (Number.isInteger(offset) && offset >= 0 && offset + length <= size) return;
  throw new ArgumentError(`an access to ${region} at ${offset} of ${length} bytes leaves its ${size} bytes`, {
    fields: { region, offset, length, size },
    hint: 'refuse such an access where it arrives (EINVAL); no bus would have carried it',
  });
}

/** The bytes of a configuration space. Register and field names are those of its table. */
export class ConfigSpace {
  readonly registers: readonly ConfigRegister[];
  private readonly masks: ByteMasks;
  private readonly data: Uint8Array;
  private readonly byName: ReadonlyMap<string, ConfigRegister>;

  /** @throws ArgumentError for a table that contradicts itself */
  constructor(registers: readonly ConfigRegister[]) {
    this.registers = registers;
    this.masks = masksOf(registers, CONFIG_BYTES);
    this.data = this.masks.reset.slice();
    this.byName = new Map(registers.map((of) => [of.name, of]));
  }

  reset(): void {
    this.data.set(this.masks.reset);
  }

  /** @throws ArgumentError for a register that the table does not have */
  register(name: string): ConfigRegister {
    const of = this.byName.get(name);
    if (of === undefined)
      throw new ArgumentError(`there is no register ${name}`, { hint: `there are ${[...this.byName.keys()].join(', ')}` });
    return of;
  }

  /** Value of a register. */
  get(name: string): bigint {
    const { offset, bytes } = this.register(name);
    return getLittle(this.data, offset, bytes);
  }

  /** Stores a value as the function itself does, read-only bits included. */
  set(name: string, value: bigint): void {
    const { offset, bytes } = this.register(name);
    putLittle(this.data, offset, bytes, value);
  }

  private field(name: string, field: string): { of: ConfigRegister; at: ConfigField } {
    const of = this.register(name);
    const at = of.fields[field];
    if (at === undefined) throw new ArgumentError(`${name} has no field ${field}`);
    return { of, at };
  }

  /** Value of a field of at most 32 bits. */
  getField(name: string, field: string): number {
    const { at } = this.field(name, field);
    return Number((this.get(name) & maskOf(at)) >> BigInt(at.lowBit));
  }

  setField(name: string, field: string, value: number): void {
    const { at } = this.field(name, field);
    const mask = maskOf(at);
    this.set(name, (this.get(name) & ~mask) | ((BigInt(value) << BigInt(at.lowBit)) & mask));
  }

  /** @throws ArgumentError for an access that leaves configuration space */
  read(offset: number, into: Uint8Array): void {
    checkAccess('configuration space', CONFIG_BYTES, offset, into.length);
    into.set(this.data.subarray(offset, offset + into.length));
  }

  /** @throws ArgumentError for an access that leaves configuration space */
  write(offset: number, bytes: Uint8Array): void {
    checkAccess('configuration space', CONFIG_BYTES, offset, bytes.length);
    const { writable, clearable } = this.masks;
    for (let i = 0; i < bytes.length; i++) {
      const at = offset + i;
      this.data[at] = written(this.data[at], bytes[i], writable[at], clearable[at]);
    }
  }

  /** Whether this write puts a 1 into a field of one bit. */
  writesOne(name: string, field: string, offset: number, bytes: Uint8Array): boolean {
    const { of, at } = this.field(name, field);
    const byte = bytes[of.offset + (at.lowBit >> 3) - offset];
    return byte !== undefined && ((byte >> (at.lowBit & 7)) & 1) === 1;
  }
}
