/** PCI functions as Linux shows them under /sys. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Memory controller of the class that SDXI has: base class 12h (processing accelerator), sub-class 01h, interface 00h. SDXI 1.0 §9.1, ref §2.1. */
export const SDXI_CLASS = 0x120100;

/** One function of a PCI device. */
export interface PciFunction {
  /** `0000:c4:00.1`. */
  readonly address: string;
  /** 24 bits; NaN when it cannot be read. */
  readonly classCode: number;
  /** `1234:abcd`. */
  readonly ids: string;
  /** Name of the driver that has it. */
  readonly driver?: string;
  /** Number of its IOMMU group; absent when no IOMMU watches over it. */
  readonly group?: number;
}

/** The part of sysfs that is about PCI functions; `root` is /sys, or a copy of it. */
export class Sysfs {
  private readonly root: string;

  constructor(root = '/sys') {
    this.root = root;
  }

  /** @returns undefined when there is no such function */
  find(address: string): PciFunction | undefined {
    const folder = join(this.root, 'bus/pci/devices', address);
    if (!existsSync(folder)) return undefined;
    const group = link(folder, 'iommu_group');
    return {
      address,
      classCode: Number(text(folder, 'class') ?? Number.NaN),
      ids: [text(folder, 'vendor'), text(folder, 'device')].map((id) => (id ?? '?').replace(/^0x/, '')).join(':'),
      driver: link(folder, 'driver'),
      group: group !== undefined && /^\d+$/.test(group) ? Number(group) : undefined,
    };
  }

  /** All functions of the class of SDXI, by address. */
  sdxiFunctions(): PciFunction[] {
    return names(join(this.root, 'bus/pci/devices'))
      .map((address) => this.find(address))
      .filter((found): found is PciFunction => found?.classCode === SDXI_CLASS);
  }

  /** The functions of an IOMMU group: the IOMMU cannot tell their accesses apart. */
  members(group: number): PciFunction[] {
    return names(join(this.root, 'kernel/iommu_groups', String(group), 'devices')).map(
      (address) => this.find(address) ?? { address, classCode: Number.NaN, ids: '?:?' },
    );
  }
}

function names(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

function text(folder: string, name: string): string | undefined {
  try {
    return readFileSync(join(folder, name), 'utf8').trim();
  } catch {
    return undefined;
  }
}

function link(folder: string, name: string): string | undefined {
  try {
    return basename(readlinkSync(join(folder, name)));
  } catch {
    return undefined;
  }
}
