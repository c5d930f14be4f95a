import { copy, type Dsc, type Fields, withCsb } from '../../src/conform/program.js';
import { closeFd, createMemfd, mapShared, unmap, viewMemory } from '../../src/native/libc.js';
import {
  AKEY_ENT,
  ContextState,
  CXT_CTL,
  CXT_L1_ENT,
  CXT_L2_ENT,
  CXT_STS,
  decodeRegister,
  doorbellOffset,
  encodeRegister,
  FunctionRequest,
  FunctionState,
  MMIO_CAP0,
  MMIO_CAP1,
  MMIO_CTL0,
  MMIO_CTL2,
  MMIO_ERR_CFG,
  Reg,
} from '../../src/spec/index.js';
import { Region } from '../../src/vfio-user/messages.js';
import type { RawClient } from './raw.js';

// Places in the arena.
const L2 = 0;
const L1 = 0x1000;
const LOG = 0x2000;
const CONTROL = 0x3000;
const STATUS = 0x3040;
const WRITE_INDEX = 0x3080;
const AKEYS = 0x4000;
const BLOCK = 0x5000;
const RING = 0x1_0000;
const ENTRIES = 1024;
/** Where data begins. */
export const DATA = 0x2_0000;
export const ARENA_IOVA = 0x1000_0000;

/** The smallest driver there is: one context on one piece of memory, everything on the calling thread. */
export class Mini {
  readonly client: RawClient;
  /** The arena as this end sees it. */
  readonly bytes: Buffer;
  readonly fd: number;
  private readonly address: number;
  private readonly view: DataView;
  private claimed = 0;
  private stride = 0;

  constructor(client: RawClient, byteLength = 1 << 20) {
    this.client = client;
    this.fd = createMemfd('sdxi-mini', byteLength);
    this.address = mapShared(this.fd, 0, byteLength);
    this.bytes = Buffer.from(viewMemory(this.address, byteLength));
    this.view = new DataView(this.bytes.buffer);
  }

  /** Grants the arena, with its file or without: then this end answers the server's requests. */
  grant({ byMessages = false } = {}): void {
    const { client, bytes } = this;
    if (byMessages) {
      client.memory = {
        read: (address, count) => this.at(address, count)?.slice(),
        write: (address, data) => this.at(address, data.length)?.set(data) === undefined && this.at(address, data.length) !== undefined,
      };
    }
    const errno = client.map(ARENA_IOVA, bytes.length, byMessages ? undefined : this.fd);
    if (errno !== 0) throw new Error(`mapping the arena failed with errno ${errno}`);
  }

  at(address: number, count: number): Buffer | undefined {
    const start = address - ARENA_IOVA;
    return start >= 0 && start + count <= this.bytes.length ? this.bytes.subarray(start, start + count) : undefined;
  }

  /** From any state: the device is reset, the function active, context 1 running. */
  up(): void {
    const { client, bytes } = this;
    client.request(13);
    client.enable();
    bytes.fill(0, 0, DATA);
    this.claimed = 0;
    bytes.set(CXT_L2_ENT.encode({ vl: 1, lv01_ptr: ARENA_IOVA + L1 }), L2);
    const { opb_000_cap, ...caps } = decodeRegister(MMIO_CAP1, client.register(Reg.CAP1));
    this.stride = decodeRegister(MMIO_CAP0, client.register(Reg.CAP0)).db_stride;
    const level1 = {
      vl: 1,
      ka: 1,
      cxt_ctl_ptr: ARENA_IOVA + CONTROL,
      akey_ptr: ARENA_IOVA + AKEYS,
      max_buffer: 11,
      opb_000_enb: opb_000_cap,
    };
    bytes.set(CXT_L1_ENT.encode(level1), L1 + 32);
    const control = {
      ds_ring_ptr: ARENA_IOVA + RING,
      ds_ring_sz: ENTRIES,
      cxt_sts_ptr: ARENA_IOVA + STATUS,
      write_index_ptr: ARENA_IOVA + WRITE_INDEX,
    };
    bytes.set(CXT_CTL.encode({ vl: 1, se: 1, csa: 1, ...control }), CONTROL);
    bytes.set(CXT_STS.encode({ state: ContextState.RUN, read_index: 0 }), STATUS);
    bytes.set(AKEY_ENT.encode({ vl: 1 }), AKEYS);
    const { max_buffer, max_akey_sz, max_cxt } = caps;
    client.setRegister(Reg.CTL2, encodeRegister(MMIO_CTL2, { max_buffer, max_akey_sz, max_cxt, opb_000_avl: opb_000_cap }));
    client.setRegister(Reg.CXT_L2, BigInt(ARENA_IOVA + L2));
    client.setRegister(Reg.ERR_CFG, encodeRegister(MMIO_ERR_CFG, { ptr: ARENA_IOVA + LOG, sz: 1, en: 1 }));
    client.setRegister(Reg.CTL0, encodeRegister(MMIO_CTL0, { fn_gsr: FunctionRequest.ACTIVE, fn_err_intr_en: 1 }));
    this.until('the function to become active', () => (Number(client.register(Reg.STS0)) & 7) === FunctionState.ACTIVE);
  }

  /** Puts a descriptor in the ring, with the completion block. */
  submit(descriptor: Dsc): void {
    const at = RING + (this.claimed % ENTRIES) * 64;
    this.bytes.set(withCsb(descriptor, ARENA_IOVA + BLOCK).subarray(4), at + 4);
    this.bytes.set(descriptor.subarray(0, 4), at);
    this.claimed++;
    this.view.setBigUint64(BLOCK, this.view.getBigUint64(BLOCK, true) + 1n, true);
    this.view.setBigUint64(WRITE_INDEX, BigInt(this.claimed), true);
  }

  /** @param from, to addresses */
  copy(from: number, to: number, size: number, fields: Fields = {}): void {
    this.submit(copy(from, to, size, { np: 0, ...fields }));
  }

  /** Rings without an answer. */
  ring(): void {
    this.client.write(Region.BAR2, doorbellOffset(1, this.stride), Buffer.from(new BigUint64Array([BigInt(this.claimed)]).buffer), {
      posted: true,
    });
  }

  /** Nothing that was submitted is left. */
  get done(): boolean {
    return this.view.getBigUint64(BLOCK, true) === 0n;
  }

  /** Some of it failed. */
  get failed(): boolean {
    return (this.view.getUint32(BLOCK + 8, true) & 0x8000_0000) !== 0;
  }

  get state(): number {
    return this.bytes[STATUS] & 0xf;
  }

  get readIndex(): number {
    return Number(this.view.getBigUint64(STATUS + 8, true));
  }

  /** Answers the server until it is so. */
  until(what: string, condition: () => boolean, limitMs = 10_000): void {
    try {
      this.client.serve(condition, limitMs);
    } catch (error) {
      throw new Error(`waiting for ${what}: ${(error as Error).message}`);
    }
  }

  close(): void {
    unmap(this.address, this.bytes.length);
    closeFd(this.fd);
  }
}
