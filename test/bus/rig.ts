import { type Bus, EmbeddedBus, InlineBus, VfioUserBus } from '../../src/bus/index.js';
import { Access } from '../../src/memory/address-space.js';
import { allocateRegion, PAGE_BYTES } from '../../src/memory/region.js';
import {
  AKEY_ENT,
  ContextState,
  CXT_CTL,
  CXT_L1_ENT,
  CXT_L2_ENT,
  CXT_STS,
  DescriptorFlag,
  encodeCopy,
  encodeInterrupt,
  encodeNop,
  FunctionRequest,
  NO_CSB,
  Reg,
} from '../../src/spec/index.js';
import { SERVED, served } from '../served.js';

export type TestBus = EmbeddedBus | InlineBus;

/**
 * Both ways to have a function in this process; `options` is the rest of the URI. Only these can be counted and saved, know PASIDs, and
 * have virtual functions.
 */
export const EMBEDDED: { name: string; open(options?: string): Promise<TestBus> }[] = [
  { name: 'engine thread', open: (options = '') => EmbeddedBus.open(`embedded:?${options}`) },
  { name: 'inline', open: async (options = '') => new InlineBus(`embedded:?inline=1&${options}`) },
];

/** Or one that is served, to our own client. */
export const BUSES: { name: string; open(options?: string): Promise<Bus> }[] = SERVED
  ? [{ name: 'vfio-user', open: async (options) => VfioUserBus.open((await served(options))[0]) }]
  : EMBEDDED;

const RING_ENTRIES = 1024;
const VECTORS = 8;

/**
 * The least that lets a function move bytes: context 0 with a ring of 1,024 descriptors, and AKeys of which number n raises
 * vector n. All of it lies in one region, mapped where it is.
 */
export class MiniDriver {
  readonly bus: Bus;
  readonly region = allocateRegion(48 * PAGE_BYTES);
  readonly base = this.region.address;
  private readonly data = new DataView(this.region.bytes.buffer, this.region.bytes.byteOffset, this.region.byteLength);
  private readonly status = 0x3000;
  private readonly writeIndexAt = 0x3040;
  private readonly ring = 0x5000;
  private submitted = 0;

  constructor(bus: Bus) {
    this.bus = bus;
    const { base } = this;
    bus.map({ iova: base, region: this.region, access: Access.READ_WRITE });
    this.region.bytes.set(CXT_L2_ENT.encode({ vl: 1, lv01_ptr: BigInt(base + 0x1000) }), 0);
    this.region.bytes.set(
      CXT_L1_ENT.encode({
        vl: 1,
        cxt_ctl_ptr: BigInt(base + 0x2000),
        akey_ptr: BigInt(base + 0x4000),
        max_buffer: 11,
        opb_000_enb: 0x18,
      }),
      0x1000,
    );
    this.region.bytes.set(
      CXT_CTL.encode({
        vl: 1,
        ds_ring_ptr: BigInt(base + this.ring),
        ds_ring_sz: RING_ENTRIES,
        cxt_sts_ptr: BigInt(base + this.status),
        write_index_ptr: BigInt(base + this.writeIndexAt),
      }),
      0x2000,
    );
    this.region.bytes.set(CXT_STS.encode({ state: ContextState.RUN }), this.status);
    for (let key = 0; key < VECTORS; key++) {
      this.region.bytes.set(AKEY_ENT.encode({ vl: 1, iv: 1, intr_num: key }), 0x4000 + key * 16);
    }
    bus.writeRegister(Reg.CXT_L2, BigInt(base));
    bus.writeRegister(Reg.CTL0, BigInt(FunctionRequest.ACTIVE));
    this.waitForState(2);
  }

  get scratch(): number {
    return this.base + 0x16000;
  }

  bytes(address: number, length: number): Uint8Array {
    return this.region.bytes.subarray(address - this.base, address - this.base + length);
  }

  waitForState(state: number): void {
    if (!this.bus.spin(() => this.bus.readRegister(Reg.STS0) === BigInt(state), 2000)) throw new Error(`no state ${state}`);
  }

  get readIndex(): number {
    return Number(this.data.getBigUint64(this.status + 8, true));
  }

  get contextState(): number {
    return this.region.bytes[this.status] & 0xf;
  }

  get writeIndex(): number {
    return this.submitted;
  }

  nop(): number {
    return this.put((u32, word) => encodeNop(u32, word, 0, NO_CSB));
  }

  copy(source: number, destination: number, size: number): number {
    return this.put((u32, word) => encodeCopy(u32, word, 0, NO_CSB, size, 0, 0, source, destination));
  }

  /** Raises a vector once all before is done. */
  interrupt(vector: number): number {
    return this.put((u32, word) => encodeInterrupt(u32, word, DescriptorFlag.FE, NO_CSB, vector));
  }

  doorbell(): void {
    this.bus.writeDoorbell(0, this.submitted);
  }

  /** Writes one descriptor and advances Write_Index. @returns the index after it */
  private put(encode: (u32: Uint32Array, word: number) => number): number {
    const word = (this.ring + (this.submitted % RING_ENTRIES) * 64) / 4;
    const { u32, i32 } = this.region.window;
    Atomics.store(i32, word, encode(u32, word));
    this.submitted++;
    Atomics.store(i32, this.writeIndexAt / 4, this.submitted);
    return this.submitted;
  }
}

export const tick = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
