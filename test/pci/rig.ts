/** A PCI function with a port that writes down what it was told, and short ways to its registers. */
import { Cap, PciFunction, type PciIdentity, type PciShape } from '../../src/pci/index.js';

export const SHAPE: PciShape = { bar0Bytes: 0x80000, bar2Bytes: 0x40000, vectors: 66 };

/** Offsets of what tests touch most. */
export const At = {
  COMMAND: 0x04,
  STATUS: 0x06,
  PMCSR: Cap.PM + 4,
  DEVCTL: Cap.EXP + 8,
  MSIX_CONTROL: Cap.MSIX + 2,
} as const;

export const MEMORY = 0x2;
export const BUS_MASTER = 0x4;
export const FLR = 0x8000;
export const FUNCTION_MASK = 0x4000;
export const MSIX_ENABLE = 0x8000;

export class Rig {
  readonly pci: PciFunction;
  /** `deliver 3`, `busMaster true`, `flr`, in order. */
  readonly journal: string[] = [];
  readonly deaf = new Set<number>();

  constructor(shape: Partial<PciShape> = {}, identity?: Partial<PciIdentity>) {
    const port = {
      deliver: (vector: number) => {
        this.journal.push(`deliver ${vector}`);
        return !this.deaf.has(vector);
      },
      busMaster: (on: boolean) => void this.journal.push(`busMaster ${on}`),
      functionLevelReset: () => void this.journal.push('flr'),
    };
    this.pci = new PciFunction({ ...SHAPE, ...shape }, port, identity);
  }

  get delivered(): number[] {
    return this.journal.filter((entry) => entry.startsWith('deliver')).map((entry) => Number(entry.slice(8)));
  }

  read(offset: number, bytes: number): number {
    const into = new Uint8Array(bytes);
    this.pci.readConfig(offset, into);
    return Number(little(into));
  }

  write(offset: number, bytes: number, value: number | bigint): void {
    this.pci.writeConfig(offset, fromLittle(value, bytes));
  }

  /** All 4096 bytes. */
  image(): Uint8Array {
    const into = new Uint8Array(4096);
    this.pci.readConfig(0, into);
    return into;
  }

  readTable(offset: number, bytes: number): bigint {
    const into = new Uint8Array(bytes);
    this.pci.readMsix(offset, into);
    return little(into);
  }

  writeTable(offset: number, bytes: number, value: number | bigint): void {
    this.pci.writeMsix(offset, fromLittle(value, bytes));
  }

  /** Memory space, bus mastering and MSI-X are on, as under a driver. */
  start(): this {
    this.write(At.COMMAND, 2, MEMORY | BUS_MASTER);
    this.write(At.MSIX_CONTROL, 2, MSIX_ENABLE);
    this.journal.length = 0;
    return this;
  }

  /** The mask bit of a table entry, by memory. */
  setMask(vector: number, on: boolean): void {
    this.writeTable(16 * vector + 12, 4, on ? 1 : 0);
  }
}

export function little(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

export function fromLittle(value: number | bigint, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
}
