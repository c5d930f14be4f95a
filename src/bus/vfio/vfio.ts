import { BusLostError, ClosedError, SdxiError } from '../../errors.js';
import { NO_PASID } from '../../memory/address-space.js';
import { MappingLedger } from '../../memory/ledger.js';
import { allocateRegion, type Region } from '../../memory/region.js';
import { BAR0_BYTES } from '../../spec/limits.js';
import { Reg } from '../../spec/registers.js';
import type { Bus, MapRequest, MemoryAdvice, WaitOptions } from '../bus.js';
import { checkDoorbellValue, checkOffset, checkRange, checkRegisterValue, checkSpin, checkVector, checkWait } from '../checks.js';
import { mapNumbers } from '../embedded/engine-memory.js';
import { admit } from './admission.js';
import { VfioDevice } from './device.js';
import { closeFiles, openFunction, type VfioFiles } from './group.js';
import { type Host, thisHost } from './host.js';
import { Interrupts } from './interrupts.js';
import { Iommu, type PageRange, wholePages } from './iommu.js';
import { Bar } from './mmio.js';
import { PciRegion } from './uapi.js';
import { type VfioSettings, vfioSettings } from './uri.js';

/** What a register reads as when nobody is there. */
const NOBODY = 0xffff_ffff_ffff_ffffn;
/** A spin looks so often between two looks at the clock. */
const LOOKS = 16;

interface Held extends PageRange {
  /** Kept alive for as long as the function may reach it. */
  readonly region: Region;
}

/** A real PCI function, through Linux' VFIO: nothing but what was mapped is within its reach, for an IOMMU watches over it. */
export class VfioBus implements Bus {
  readonly uri: string;
  readonly vectors: number;
  readonly doorbellBytes: number;
  /** Virtual functions have PCI addresses, and so buses, of their own. */
  readonly virtualFunctions: readonly Bus[] = [];
  readonly details: Readonly<Record<string, string | number>>;
  readonly memoryAdvice: MemoryAdvice;
  private readonly host: Host;
  private readonly files: VfioFiles;
  private readonly device: VfioDevice;
  private readonly iommu: Iommu;
  private readonly registers: Bar;
  private readonly doorbells: Bar;
  private readonly interrupts: Interrupts;
  private readonly held = new MappingLedger<Held>();
  /** Read before each doorbell: on arm64 a load-acquire keeps it behind the stores that it announces. */
  private readonly order = new Int32Array(1);
  private closing?: Promise<void>;

  /**
   * @param uri `vfio:0000:c4:00.1[?option=value&…]`; options are `vectors`, `mmio`, `hugepages`, `arenaBytes`
   * @throws SdxiError ERR_SDXI_URI, ERR_SDXI_UNSUPPORTED, ERR_SDXI_STATE, ERR_SDXI_BUSY, ERR_SDXI_SYSTEM, each with its cure; ArgumentError
   * for options; BusLostError when the function does not answer
   */
  static async open(uri: string, host: Host = thisHost()): Promise<VfioBus> {
    const settings = vfioSettings(uri);
    const found = admit(host, settings.address);
    const files = openFunction(host, found);
    const parts: Partial<Parts> = {};
    try {
      const lose = (why: string): never => {
        parts.interrupts?.watch.fail(why);
        throw lostError(uri, why);
      };
      const device = new VfioDevice(host, files.device, lose);
      device.enable();
      const iommu = new Iommu(host, files.container);
      parts.registers = openBar(host, device, 'BAR 0', PciRegion.BAR0, BAR0_BYTES, settings);
      parts.doorbells = openBar(host, device, 'BAR 2', PciRegion.BAR2, 8, settings);
      if (parts.registers.read(Reg.VERSION) === NOBODY) lose('its registers read all ones');
      parts.interrupts = await Interrupts.open(device, settings);
      const { registers, doorbells, interrupts } = parts;
      return new VfioBus({ settings, host, files, device, iommu, registers, doorbells, interrupts, group: found.group });
    } catch (error) {
      await parts.interrupts?.close();
      parts.doorbells?.close();
      parts.registers?.close();
      closeFiles(host, files);
      throw error;
    }
  }

  private constructor({ settings, host, files, device, iommu, registers, doorbells, interrupts, group }: Opened) {
    this.uri = settings.uri;
    this.host = host;
    this.files = files;
    this.device = device;
    this.iommu = iommu;
    this.registers = registers;
    this.doorbells = doorbells;
    this.interrupts = interrupts;
    this.vectors = interrupts.vectors;
    this.doorbellBytes = doorbells.byteLength;
    const { hugepages, arenaBytes } = settings;
    this.memoryAdvice = {
      chunkBytes: arenaBytes,
      writeOnlyIsReadable: true,
      source: hugepages ? (byteLength) => allocateRegion(byteLength, 'sdxi-dma', { hugePages: true }) : undefined,
    };
    this.details = {
      iommuGroup: group,
      registers: registers.how,
      doorbells: doorbells.how,
      reset: device.canReset ? 'function-level' : 'none',
      hugepages: hugepages ? 'yes' : 'no',
    };
  }

  // ---- Registers and doorbells

  /** There is no limit of time: a load that no device answers returns all ones when the machine's completion timeout is over. */
  readRegister(offset: number): bigint {
    this.check();
    checkOffset(offset, this.registers.byteLength, 'registers');
    const value = this.registers.read(offset);
    if (value === NOBODY) this.suspect();
    return value;
  }

  /** Reads STS0 afterwards: writes are posted, and a read pushes them, doorbells included (S-10), in front of itself. */
  writeRegister(offset: number, value: bigint): void {
    this.check();
    checkOffset(offset, this.registers.byteLength, 'registers');
    checkRegisterValue(value);
    this.registers.write(offset, value);
    if (this.registers.read(Reg.STS0) === NOBODY) this.suspect();
  }

  writeDoorbell(offset: number, value: number): void {
    this.check();
    checkDoorbellValue(value);
    checkOffset(offset, this.doorbellBytes, 'doorbells');
    Atomics.load(this.order, 0);
    this.doorbells.write(offset, BigInt(value));
  }

  /** All ones may be the value of a register; VERSION never is. @throws BusLostError */
  private suspect(): void {
    if (this.registers.read(Reg.VERSION) !== NOBODY) return;
    this.interrupts.watch.fail(this.device.present ? 'its registers read all ones' : 'it was removed');
    this.check();
  }

  // ---- Memory

  map(request: MapRequest): void {
    this.check();
    const { iova, byteLength, regionAddress, offset, access, pasid } = mapNumbers(request);
    if (pasid !== NO_PASID) throw noPasid(this.uri, pasid);
    const range = wholePages(iova, byteLength, this.iommu.info.pageBytes);
    this.iommu.map({ ...range, address: regionAddress + offset - (iova - range.iova), access: access as MapRequest['access'] });
    this.held.add(NO_PASID, iova, byteLength, { ...range, region: request.region });
  }

  unmap(iova: number, byteLength: number, pasid = NO_PASID): void {
    this.check();
    checkRange(iova, byteLength);
    for (const mapping of this.held.inside(pasid, iova, byteLength)) {
      this.iommu.unmap(mapping.note);
      this.held.delete(pasid, mapping.iova);
    }
  }

  // ---- Interrupts

  interruptCount(vector: number): number {
    this.checkVector(vector);
    return this.interrupts.words.count(vector);
  }

  /** Software's: VFIO does not let user space mask a vector of MSI-X. From its return on no delivery is counted. */
  maskInterrupt(vector: number): void {
    this.checkVector(vector);
    this.interrupts.words.mask(vector);
  }

  unmaskInterrupt(vector: number): void {
    this.checkVector(vector);
    this.interrupts.words.unmask(vector);
  }

  interruptPending(vector: number): boolean {
    this.checkVector(vector);
    return this.interrupts.words.pending(vector);
  }

  private checkVector(vector: number): void {
    this.check();
    checkVector(vector, this.vectors);
  }

  // ---- Waiting

  /** @see Bus.wait */
  async wait(condition: () => boolean, options: WaitOptions): Promise<void> {
    this.check();
    checkWait(condition, options, this.vectors);
    await this.interrupts.watch.wait(condition, options);
  }

  /** @see Bus.spin */
  spin(condition: () => boolean, timeoutMs: number): boolean {
    checkSpin(condition, timeoutMs);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      this.check();
      for (let look = 0; look < LOOKS; look++) if (condition()) return true;
      if (performance.now() >= deadline) return condition();
    }
  }

  ref(): void {
    this.interrupts.watch.ref();
  }

  unref(): void {
    this.interrupts.watch.unref();
  }

  // ---- The end

  /**
   * Function-level reset by the kernel, which saves and restores configuration space; it takes 100 ms and more. What is mapped stays mapped,
   * vectors are as after opening: unmasked, nothing pending.
   * @throws SdxiError ERR_SDXI_UNSUPPORTED when the kernel cannot reset it alone; BusLostError
   */
  reset(): void {
    this.check();
    this.device.reset();
    this.device.enable();
    this.interrupts.words.reset();
    if (this.registers.read(Reg.VERSION) === NOBODY) this.suspect();
  }

  /** @throws ClosedError, BusLostError */
  private check(): void {
    if (this.closing) throw new ClosedError(this.uri);
    this.interrupts.watch.check();
  }

  /** The kernel resets the function when the last of its files is closed, and only then is its memory given back. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    await this.interrupts.close();
    this.doorbells.close();
    this.registers.close();
    closeFiles(this.host, this.files);
    this.held.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface Parts {
  registers: Bar;
  doorbells: Bar;
  interrupts: Interrupts;
}

interface Opened extends Parts {
  readonly settings: VfioSettings;
  readonly host: Host;
  readonly files: VfioFiles;
  readonly device: VfioDevice;
  readonly iommu: Iommu;
  readonly group: number;
}

function openBar(host: Host, device: VfioDevice, name: string, index: number, leastBytes: number, { mmio, address }: VfioSettings): Bar {
  const region = device.region(index);
  if (region.size >= leastBytes) return new Bar(host, device, name, region, mmio);
  throw new SdxiError(
    'ERR_SDXI_UNSUPPORTED',
    `${name} of ${address} has ${region.size} bytes, and a function of SDXI 1.0 needs ${leastBytes}`,
    {
      hint: 'was it given addresses? lspci -v shows them; a bridge without room leaves BARs out (kernel parameter pci=realloc)',
      fields: { function: address, byteLength: region.size },
    },
  );
}

function lostError(uri: string, why: string): BusLostError {
  return new BusLostError(`the function behind ${uri} is gone: ${why}`, { fields: { uri, reason: why } });
}

function noPasid(uri: string, pasid: number): SdxiError {
  return new SdxiError('ERR_SDXI_UNSUPPORTED', `memory cannot be mapped for PASID ${pasid} of ${uri}`, {
    hint: 'the type1 IOMMU of VFIO has one address space for each function: leave the PASID out',
    fields: { uri, pasid },
  });
}
