import type { FunctionConfig } from '../function/config.js';
import { SdxiFunction } from '../function/function.js';
import type { FunctionPorts } from '../function/ports.js';
import { PciFunction, type PciIdentity } from '../pci/index.js';
import { BAR0_BYTES, bar2Bytes } from '../spec/limits.js';
import { REGIONS, Region, RegionFlag } from '../vfio-user/messages.js';

/** PCI Express configuration space. */
const CONFIG_BYTES = 4096;

/** What a device needs of the world around it. */
export interface DevicePorts extends Omit<FunctionPorts, 'interrupts'> {
  /** An interrupt for the client. @returns whether it has asked for it */
  deliver(vector: number): boolean;
  /** What the function has written has to be where the interrupt's receiver sees it. */
  beforeInterrupt(): void;
  /** Bus mastering went off, or on again (S-47). */
  blocked(on: boolean): void;
  /** Software has reset the function through its configuration space. */
  functionLevelReset(): void;
}

export interface DeviceShape {
  readonly config: FunctionConfig;
  readonly vectors: number;
  readonly identity: Partial<PciIdentity>;
}

/** An SDXI function as a PCI device: what each byte of its regions means. Ref §9. */
export class Device {
  readonly fn: SdxiFunction;
  readonly pci: PciFunction;
  readonly vectors: number;
  private readonly bytes: readonly number[];
  private readonly ports: DevicePorts;

  constructor({ config, vectors, identity }: DeviceShape, ports: DevicePorts) {
    this.ports = ports;
    this.vectors = vectors;
    const shape = { bar0Bytes: BAR0_BYTES, bar2Bytes: bar2Bytes(config.maxContext, config.dbStride), vectors };
    this.pci = new PciFunction(
      shape,
      {
        deliver: (vector) => ports.deliver(vector),
        busMaster: (on) => this.block(!on),
        functionLevelReset: () => {
          this.fn.reset();
          ports.functionLevelReset();
        },
      },
      identity,
    );
    const raise = (vector: number) => {
      ports.beforeInterrupt();
      this.pci.raise(vector);
    };
    this.fn = new SdxiFunction(config, { ...ports, interrupts: { vectors, raise } });
    this.block(!this.pci.busMastering);
    this.bytes = Array.from({ length: REGIONS }, (_, region) =>
      region === Region.CONFIG ? CONFIG_BYTES : (this.pci.barBytes[region] ?? 0),
    );
  }

  /** Size of a region in bytes; 0 when it has none. */
  regionBytes(region: number): number {
    return this.bytes[region] ?? 0;
  }

  /** Flags of VFIO's region info. */
  regionFlags(region: number): number {
    return this.regionBytes(region) > 0 ? RegionFlag.READ | RegionFlag.WRITE : 0;
  }

  /** A BAR that does not answer: memory space is off, or the function is in D3hot (S-95). The shell looks after its own. */
  private silent(region: number): boolean {
    return (region === Region.BAR0 || region === Region.BAR2) && !this.pci.memoryDecoding;
  }

  /** Reads bytes that lie in the region. */
  read(region: number, offset: number, into: Uint8Array): void {
    if (this.silent(region)) {
      into.fill(0xff);
      return;
    }
    switch (region) {
      case Region.BAR0:
        for (let at = 0; at < into.length; ) {
          const size = piece(offset + at, into.length - at, into.length);
          putNumber(into, at, size, this.fn.readRegister(offset + at, size));
          at += size;
        }
        break;
      case Region.BAR4:
        this.pci.readMsix(offset, into);
        break;
      case Region.CONFIG:
        this.pci.readConfig(offset, into);
        break;
      default:
        into.fill(0); // doorbells (ref §2.13)
    }
  }

  /** Writes bytes that lie in the region. */
  write(region: number, offset: number, bytes: Uint8Array): void {
    if (this.silent(region)) return;
    switch (region) {
      case Region.BAR0:
      case Region.BAR2:
        for (let at = 0; at < bytes.length; ) {
          const size = piece(offset + at, bytes.length - at, bytes.length);
          const value = getNumber(bytes, at, size);
          if (region === Region.BAR0) this.fn.writeRegister(offset + at, size, value);
          else this.fn.writeDoorbell(offset + at, size, value);
          at += size;
        }
        break;
      case Region.BAR4:
        this.pci.writeMsix(offset, bytes);
        break;
      case Region.CONFIG:
        this.pci.writeConfig(offset, bytes);
        break;
    }
  }

  /** DEVICE_RESET: the same as a function-level reset (S-107). */
  reset(): void {
    this.pci.reset();
    this.fn.reset();
  }

  /** Nothing of the client's memory can be reached while bus mastering is off. */
  private block(on: boolean): void {
    this.ports.memory.setBlocked(on);
    this.ports.blocked(on);
  }
}

/** Bytes of the next access: longer messages act as ascending pieces of 8 aligned bytes, any other is one access as it is (S-100). */
const piece = (offset: number, rest: number, length: number): number => (length > 8 ? Math.min(rest, 8 - (offset % 8)) : length);

const number = new BigUint64Array(1);
const numberBytes = new Uint8Array(number.buffer);

function putNumber(into: Uint8Array, at: number, size: number, value: bigint): void {
  number[0] = value;
  for (let i = 0; i < size; i++) into[at + i] = numberBytes[i];
}

function getNumber(bytes: Uint8Array, at: number, size: number): bigint {
  number[0] = 0n;
  for (let i = 0; i < size; i++) numberBytes[i] = bytes[at + i];
  return number[0];
}
