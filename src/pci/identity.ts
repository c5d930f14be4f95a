import { ArgumentError } from '../errors.js';
import { VECTORS_MAX } from '../spec/limits.js';

/** What a function asks of its bus: sizes of its BARs and its interrupt vectors. */
export interface PciShape {
  /** Control registers: a power of two from 4096 to 2^52. Ref §2.1. */
  readonly bar0Bytes: number;
  /** Doorbells: a power of two from 4096 to 2^52. Ref §2.1. */
  readonly bar2Bytes: number;
  /** MSI-X vectors, 2 … 2048. Ref §9. */
  readonly vectors: number;
}

/** Who a function says it is. Drivers look at the class alone (ref §9); people and virtual machines look at these. */
export interface PciIdentity {
  /** 16 bits, neither 0 nor 0xffff nor 0x1af4. */
  vendorId: number;
  /** 16 bits. */
  deviceId: number;
  /** 16 bits. */
  subsystemVendorId: number;
  /** 16 bits. */
  subsystemId: number;
  /** 8 bits. */
  revision: number;
  /** EUI-64 of the Device Serial Number capability. */
  serial: bigint;
}

/** No real product (S-95). The first byte of the serial number says "locally administered", as in a MAC address. */
export const DEFAULT_IDENTITY: PciIdentity = Object.freeze({
  vendorId: 0x1234,
  deviceId: 0x5d71,
  subsystemVendorId: 0x1234,
  subsystemId: 0x5d71,
  revision: 0,
  serial: 0x0200_0000_0000_0001n,
});

/** A BAR fills pages, so that nothing else lies in a page that software maps; and its size is an exact number. */
const BAR_MIN = 4096;
const BAR_MAX = 2 ** 52;
export const VECTORS_MIN = 2;

/** @throws ArgumentError for a BAR that is no power of two, or a number of vectors that MSI-X or ref §9 does not allow */
export function checkShape({ bar0Bytes, bar2Bytes, vectors }: PciShape): PciShape {
  for (const [name, size] of Object.entries({ bar0Bytes, bar2Bytes })) {
    // Above 2^31 the bit operators of JavaScript are of no use: the logarithm of a power of two is exact.
    if (!(size >= BAR_MIN && size <= BAR_MAX && Number.isInteger(Math.log2(size)))) {
      throw new ArgumentError(`${name} ${size} is no size of a BAR`, {
        fields: { [name]: size },
        hint: `give a power of two from ${BAR_MIN} to 2^52: virtual machines end at once with any other size`,
      });
    }
  }
  if (!(Number.isInteger(vectors) && vectors >= VECTORS_MIN && vectors <= VECTORS_MAX)) {
    throw new ArgumentError(`a function cannot have ${vectors} MSI-X vectors`, {
      fields: { vectors },
      hint: `give ${VECTORS_MIN} to ${VECTORS_MAX}: MSI-X has no more, and drivers ask for two (O-29)`,
    });
  }
  return { bar0Bytes, bar2Bytes, vectors };
}

function checkNumber(name: keyof PciIdentity, value: unknown, highest: number): void {
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= highest) return;
  throw new ArgumentError(`${name} ${String(value)} does not fit`, {
    fields: { [name]: value },
    hint: `give an integer from 0 to 0x${highest.toString(16)}`,
  });
}

/** @throws ArgumentError for a number that does not fit, and for vendors that would hide the function from its driver */
export function checkIdentity(given: Partial<PciIdentity>): PciIdentity {
  const identity = { ...DEFAULT_IDENTITY, ...given };
  for (const name of ['vendorId', 'deviceId', 'subsystemVendorId', 'subsystemId'] as const) checkNumber(name, identity[name], 0xffff);
  checkNumber('revision', identity.revision, 0xff);
  if (typeof identity.serial !== 'bigint' || BigInt.asUintN(64, identity.serial) !== identity.serial) {
    throw new ArgumentError(`serial ${String(identity.serial)} does not fit`, {
      fields: { serial: identity.serial },
      hint: 'give a bigint of 64 bits',
    });
  }
  const { vendorId } = identity;
  if (vendorId === 0x1af4) {
    throw new ArgumentError('vendor 0x1af4 is that of virtio', {
      fields: { vendorId },
      hint: 'give another vendor id: virtio-pci binds to every device of 0x1af4, before any driver that goes by the class (S-95)',
    });
  }
  if (vendorId === 0 || vendorId === 0xffff) {
    throw new ArgumentError(`vendor 0x${vendorId.toString(16)} says that there is no function`, {
      fields: { vendorId },
      hint: 'give another vendor id: enumeration passes over 0 and 0xffff',
    });
  }
  return identity;
}
