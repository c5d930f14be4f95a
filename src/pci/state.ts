/** What a PCI function is for whoever takes it over: a plain object that JSON carries (S-124). */
import { createHash } from 'node:crypto';
import { SdxiError } from '../errors.js';
import { fromHex, toHex } from '../spec/index.js';
import { PowerState } from './capabilities.js';
import { bitsOf, type ConfigRegister, type ConfigSpace, resetOf } from './config-space.js';
import type { PciIdentity, PciShape } from './identity.js';
import type { MsixTable } from './msix.js';

export const PCI_STATE_VERSION = 1;

export interface PciState {
  format: 'sdxi-pci';
  version: typeof PCI_STATE_VERSION;
  /** What whoever takes over must have too, for software has read it; numbers, and the serial number as `0x…`. */
  function: Record<string, number | string>;
  /** Every register of configuration space that software can change, as `0x…`. */
  registers: Record<string, string>;
  /** The MSI-X table as hexadecimal bytes in memory order. */
  table: string;
  /** Vectors whose pending bit is set, lowest first. */
  pending: number[];
  /** SHA-256 of all of the above, in hexadecimal. */
  checksum: string;
}

/** A state that has been found good. */
export interface CheckedState {
  readonly registers: readonly (readonly [name: string, value: bigint])[];
  readonly table: Uint8Array;
  readonly pending: readonly number[];
}

function refuse(what: string, hint: string, fields: Record<string, unknown> = {}): never {
  throw new SdxiError('ERR_SDXI_STATE', what, { hint, fields });
}

const CHANGED = 'it was changed or cut short: save again, a state is not for editing';

function changeable(of: ConfigRegister): bigint {
  return bitsOf(of, 'RW', 'RW1C');
}

function describe(shape: PciShape, identity: PciIdentity): Record<string, number | string> {
  const { bar0Bytes, bar2Bytes, vectors } = shape;
  const { vendorId, deviceId, subsystemVendorId, subsystemId, revision, serial } = identity;
  const ids = { vendorId, deviceId, subsystemVendorId, subsystemId, revision, serial: `0x${serial.toString(16)}` };
  return { bar0Bytes, bar2Bytes, vectors, ...ids };
}

/** The order of the properties does not count: JSON may pass through other hands. */
export function checksum(state: Omit<PciState, 'checksum'>): string {
  const sorted = (values: Record<string, unknown>) => Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1));
  const { format, version, table, pending } = state;
  const text = JSON.stringify([format, version, sorted(state.function), sorted(state.registers), table, pending]);
  return createHash('sha256').update(text).digest('hex');
}

export function saveState(shape: PciShape, identity: PciIdentity, config: ConfigSpace, msix: MsixTable): PciState {
  const registers = config.registers
    .filter((of) => changeable(of) !== 0n)
    .map(({ name }) => [name, `0x${config.get(name).toString(16)}`] as const);
  const content = {
    format: 'sdxi-pci',
    version: PCI_STATE_VERSION,
    function: describe(shape, identity),
    registers: Object.fromEntries(registers),
    table: toHex(msix.saveTable()),
    pending: msix.allPending(),
  } as const;
  return { ...content, checksum: checksum(content) };
}

/** An object from outside, of whose contents nothing is known. */
function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkRegisters(config: ConfigSpace, saved: Record<string, unknown>): [string, bigint][] {
  const wanted = config.registers.filter((of) => changeable(of) !== 0n);
  const unknown = Object.keys(saved).find((name) => !wanted.some((of) => of.name === name));
  if (unknown !== undefined) refuse(`the state has a register ${unknown}, which this function has not`, CHANGED, { name: unknown });
  return wanted.map((of) => {
    const text = saved[of.name];
    if (typeof text !== 'string' || !/^0x[0-9a-f]{1,16}$/.test(text)) {
      return refuse(`the state has no valid register ${of.name}`, CHANGED, { name: of.name });
    }
    const value = BigInt(text);
    if ((value ^ resetOf(of)) & ~changeable(of)) {
      refuse(`${of.name} cannot be ${text}`, CHANGED, { name: of.name, value });
    }
    return [of.name, value];
  });
}

/**
 * What is in a state, if it can become that of this function.
 * @throws SdxiError ERR_SDXI_STATE for anything but an unchanged state of a function with the same shape and identity
 */
export function checkState(state: unknown, shape: PciShape, identity: PciIdentity, config: ConfigSpace, msix: MsixTable): CheckedState {
  if (!isRecord(state) || state.format !== 'sdxi-pci')
    return refuse('this is no state of a PCI function', 'give what save() returned, or its JSON parsed');
  if (state.version !== PCI_STATE_VERSION) {
    refuse(`a PCI state of version ${String(state.version)} is not known`, `this version of sdxi reads version ${PCI_STATE_VERSION}`, {
      version: state.version,
    });
  }
  const { function: of, registers, table, pending } = state;
  const plain = (values: unknown[]) => values.every((value) => typeof value === 'number' || typeof value === 'string');
  if (!isRecord(of) || !isRecord(registers) || typeof table !== 'string' || !Array.isArray(pending)) {
    return refuse('the state is not whole', CHANGED);
  }
  if (![Object.values(of), Object.values(registers), pending].every(plain)) {
    return refuse('the state is not whole', CHANGED);
  }
  if (state.checksum !== checksum(state as unknown as PciState)) refuse('the state was changed: its checksum does not fit', CHANGED);
  for (const [name, own] of Object.entries(describe(shape, identity))) {
    if (of[name] !== own) {
      refuse(`the state is of a function with another ${name}`, 'make this one with the same sizes and ids, which software has read', {
        name,
        saved: of[name],
        own,
      });
    }
  }
  const values = checkRegisters(config, registers);
  const power = Number((values.find(([name]) => name === 'PMCSR')?.[1] ?? 0n) & 3n);
  if (power === PowerState.D1 || power === PowerState.D2) refuse(`the function cannot be in D${power}`, CHANGED, { power });
  const bytes = /^([0-9a-f]{2})*$/.test(table) ? fromHex(table) : new Uint8Array(0);
  if (!msix.accepts(bytes)) refuse('the MSI-X table does not fit', CHANGED);
  const vectors = pending.filter((vector) => Number.isInteger(vector) && vector >= 0 && vector < shape.vectors);
  if (vectors.length !== pending.length) refuse('there are pending bits of vectors that the function has not', CHANGED, { pending });
  return { registers: values, table: bytes, pending: vectors };
}
