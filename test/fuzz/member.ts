import { type FunctionConfig, type FunctionPorts, functionConfig, SdxiFunction } from '../../src/function/index.js';
import type { Prng } from '../../src/prng.js';
import { AKEY_ENT, ContextState, CXT_CTL, CXT_L1_ENT, CXT_L2_ENT, CXT_STS, FunctionState, Reg, RKEY_ENT } from '../../src/spec/index.js';
import { FuzzMemory } from './memory.js';

/** Size of a function's memory; the upper half is what random mappings are made of. */
export const BYTES = 0x20_0000;
export const CONTEXTS = 4;
export const GROUP = 7;
export const PASID = 5;
export const VECTORS = 8;
export const RING = 1024;
export const DATA = 0x8_0000;
export const DATA_END = 0x10_0000;

// Where things lie, from the start of the memory.
const L2 = 0;
const L1 = 0x1000;
const LOG = 0x2000;
const RKEYS = 0x3000;
const CONTEXT = 0x1_0000;
const CONTEXT_BYTES = 0x1_4000;
const place = (context: number) => {
  const base = CONTEXT + context * CONTEXT_BYTES;
  return { control: base, status: base + 0x40, writeIndex: base + 0x80, blocks: base + 0x100, akeys: base + 0x1000, ring: base + 0x2000 };
};
const BLOCKS = 32;

/** Steps in which everything that was begun has to end. */
const REST_STEPS = 50_000;

/** One function with everything a driver would give it, and what a hostile one would take away. */
export class Member {
  readonly fn: SdxiFunction;
  readonly memory: FuzzMemory;
  readonly config: FunctionConfig;
  /** DMA address of the first byte. */
  readonly base: number;
  readonly sfunc: number;
  /** Write_Index of each context, as software knows it. */
  readonly writeIndex = new Array<number>(CONTEXTS).fill(0);
  private readonly random: Prng;
  private readonly peers: number;

  /** Data lies in one piece. */
  private readonly whole: boolean;

  constructor(
    random: Prng,
    sfunc: number,
    peers: number,
    partial: Partial<FunctionConfig>,
    make: (memory: FuzzMemory) => FunctionPorts,
    pieces: boolean,
  ) {
    this.whole = !pieces;
    this.random = random;
    this.sfunc = sfunc;
    this.peers = peers;
    this.memory = new FuzzMemory(BYTES);
    this.base = 0x1_0000_0000 * sfunc;
    this.config = functionConfig({ ...partial, sfunc, groupId: peers > 1 ? GROUP : 0 });
    this.fn = new SdxiFunction(this.config, make(this.memory));
  }

  // ---- what a driver does

  /** Mappings as a driver makes them, each structure by itself; data with gaps. */
  mapAll(): void {
    const { memory, base, random } = this;
    memory.unmapAll();
    const map = (position: number, length: number, access: number, pasid = -1) =>
      memory.map(pasid, base + position, length, position, access);
    map(L2, 0x1000, 1);
    map(L1, 0x1000, 1);
    map(LOG, 0x1000, 3);
    map(RKEYS, 0x1000, 1);
    for (let context = 0; context < CONTEXTS; context++) {
      const at = place(context);
      map(at.control, 0x40, 1);
      map(at.status, 0x10, 3);
      map(at.writeIndex, 8, 1);
      map(at.blocks, BLOCKS * 32, 3);
      map(at.akeys, 0x1000, 1);
      if (random.below(2) === 0) map(at.ring, RING * 64, 3);
      else for (let piece = 0; piece < 4; piece++) map(at.ring + piece * RING * 16, RING * 16, 3);
    }
    if (this.whole) map(DATA, DATA_END - DATA, 3);
    for (let at = DATA; at < DATA_END && !this.whole; ) {
      const length = Math.min(DATA_END - at, 8 * (1 + random.below(0x2000)));
      map(at, length, random.below(8) === 0 ? 1 + random.below(3) : 3);
      at += length + (random.below(3) === 0 ? 8 * random.below(64) : 0);
    }
    map(DATA, 0x1_0000, 3, PASID);
    const own = place(3);
    map(own.status, 0x10, 3, PASID);
    map(own.writeIndex, 8, 1, PASID);
    map(own.blocks, BLOCKS * 32, 3, PASID);
    map(own.ring, RING * 64, 3, PASID);
  }

  /** All tables anew, all rings empty. The function must not run. */
  writeTables(): void {
    const { memory, base, random, config } = this;
    memory.zero(L2, CONTEXT + CONTEXTS * CONTEXT_BYTES);
    memory.put(L2, CXT_L2_ENT.encode({ vl: 1, lv01_ptr: base + L1 }));
    for (let context = 0; context < CONTEXTS; context++) {
      const at = place(context);
      const pasid = context === 3 && random.below(4) === 0 ? { pv: 1, cxt_pasid: PASID } : {};
      memory.put(
        L1 + context * 32,
        CXT_L1_ENT.encode({
          vl: 1,
          ka: 1,
          cxt_ctl_ptr: base + at.control,
          akey_ptr: base + at.akeys,
          max_buffer: config.maxBuffer,
          opb_000_enb: config.opGroups,
          ...(pasid as object),
        }),
      );
      memory.put(
        at.control,
        CXT_CTL.encode({
          vl: 1,
          se: 1,
          csa: random.below(2),
          qos: random.below(4),
          ds_ring_ptr: base + at.ring,
          ds_ring_sz: RING,
          cxt_sts_ptr: base + at.status,
          write_index_ptr: base + at.writeIndex,
        }),
      );
      this.rewind(context, random.below(4) === 0 ? RING * random.below(1000) + random.below(RING) : 0, ContextState.RUN);
      const peer = 1 + random.below(this.peers);
      const keys = [
        {},
        { iv: 1, intr_num: random.below(VECTORS) },
        { pv: 1, pasid: PASID },
        { tgt_sfunc: peer, rkey: 0 },
        { vl: 0 },
        { iv: 1, intr_num: 2000 },
        { tgt_sfunc: peer, rkey: random.below(5) },
        { tgt_sfunc: peer, rkey: 2, pv: 1, pasid: PASID },
      ];
      keys.forEach((fields, key) => {
        memory.put(at.akeys + key * 16, AKEY_ENT.encode({ vl: 1, ...fields }));
      });
    }
    const requester = 1 + random.below(this.peers);
    const grants = [{}, { iv: 1, intr_num: 1 }, { pv: 1, pasid: PASID }, { vl: 0 }];
    grants.forEach((fields, rkey) => {
      memory.put(RKEYS + rkey * 16, RKEY_ENT.encode({ vl: 1, req_sfunc: requester, ...fields }));
    });
  }

  /** An empty ring at an index, in a state. */
  rewind(context: number, index: number, state: number): void {
    const { memory } = this;
    const at = place(context);
    this.writeIndex[context] = index;
    memory.put(at.status, CXT_STS.encode({ state, read_index: index }));
    this.storeWriteIndex(context, index);
  }

  storeWriteIndex(context: number, index: number): void {
    const at = place(context).writeIndex;
    this.memory.store(at + 4, Math.floor(index / 2 ** 32));
    this.memory.store(at, index >>> 0);
  }

  readIndex(context: number): number {
    const word = (place(context).status + 8) >>> 2;
    return this.memory.u32[word + 1] * 2 ** 32 + this.memory.u32[word];
  }

  state(context: number): number {
    return this.memory.bytes[place(context).status] & 0xf;
  }

  /** Position of a random dword of the structures. */
  anyStructure(): number {
    const { random } = this;
    const context = random.below(CONTEXTS);
    const at = place(context);
    const starts: [from: number, dwords: number][] = [
      [L2, 2],
      [L1 + context * 32, 8],
      [at.control, 8],
      [at.status, 4],
      [at.writeIndex, 2],
      [at.akeys, 32],
      [RKEYS, 16],
    ];
    const [from, dwords] = starts[random.below(starts.length)];
    return from + 4 * random.below(dwords);
  }

  /** Position of a slot. */
  slot(context: number, index: number): number {
    return place(context).ring + (index % RING) * 64;
  }

  /** DMA address of a completion block, whose signal becomes 1 now and then. */
  block(context: number): number {
    const at = place(context).blocks + 32 * this.random.below(BLOCKS);
    if (this.random.below(4) === 0) this.memory.store(at, 1);
    return this.base + at;
  }

  control(request: number): void {
    this.fn.writeRegister(Reg.CTL0, 8, (BigInt(this.config.groupId) << 32n) | 0x10n | BigInt(request));
  }

  /** From whatever state to ACTIVE, with tables and mappings as they should be. */
  bringUp(): void {
    const { fn, base } = this;
    this.toStop();
    this.mapAll();
    this.writeTables();
    fn.writeRegister(Reg.CTL2, 8, fn.readRegister(Reg.CAP1, 8) & 0xffff_ffff_ffff_f00fn);
    fn.writeRegister(Reg.CXT_L2, 8, BigInt(base + L2));
    fn.writeRegister(Reg.RKEY, 8, BigInt(base + RKEYS) | 1n);
    fn.writeRegister(Reg.ERR_WRT, 8, 0n);
    fn.writeRegister(Reg.ERR_RD, 8, 0n);
    fn.writeRegister(Reg.ERR_STS, 8, 0xbn);
    fn.writeRegister(Reg.ERR_CFG, 8, BigInt(base + LOG) | 1n);
    fn.writeRegister(Reg.ERR_CTL, 8, 1n);
    this.control(3);
    for (let context = 0; context < CONTEXTS; context++) fn.ringDoorbell(context, this.writeIndex[context]);
  }

  /** @throws FuzzFailure when it does not get there */
  toStop(): void {
    if (this.fn.state === FunctionState.STOP) return;
    this.control(this.random.below(3));
    if (this.settle(FunctionState.STOP)) return;
    this.control(0);
    if (!this.settle(FunctionState.STOP)) throw new Error(`the function stays in state ${this.fn.state} after RESET`);
  }

  /** Steps until the function is in a state, or rests. @returns whether it is in that state */
  private settle(state: number): boolean {
    for (let steps = 0; this.fn.state !== state && steps < REST_STEPS; steps++) if (this.fn.step(64) === 0) break;
    return this.fn.state === state;
  }

  /** What a driver does after an error: the ring empty, and RUN again. */
  repair(context: number): void {
    const index = this.readIndex(context);
    const sound = Number.isSafeInteger(index) && index < 2 ** 40;
    this.rewind(context, sound ? index : 0, ContextState.RUN);
    for (let slot = 0; slot < RING; slot++) this.memory.store(this.slot(context, slot), 0);
    this.fn.ringDoorbell(context, this.writeIndex[context]);
  }

  /** @throws Error when it goes on and on */
  rest(): void {
    for (let steps = 0; steps < REST_STEPS; steps++) if (this.fn.step(64) === 0) return;
    throw new Error('the function does not come to rest');
  }
}
