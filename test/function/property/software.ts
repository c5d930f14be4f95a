/** What software does before and while a function works: tables, rings, completion blocks, in memory of its own choice. */
import { type Estate, FUNCTION_PASID, L1, L2, LOG, type Piece, type Place, type Setup, UNKNOWN_PASID } from './estate.js';
import { encode, meant, type Op } from './program.js';
import type { Spot } from './reference.js';

export const FIRST_RECORD = 1000n;
export const ERR_CFG_ON = BigInt(LOG | (1 << 1) | 1);
export const CXT_L2_VALUE = BigInt(L2) | 0xfffn;

/** What software remembers of a context. */
export interface Producer {
  place: Place;
  writeIndex: bigint;
  nextBlock: number;
  /** Slots that are claimed and not written yet. */
  holes: Spot[];
}

/** Software over some banks of memory. How it stores, and how it rings, is for others to say. */
export abstract class Software {
  readonly setup: Setup;
  readonly estate: Estate;
  readonly banks: Buffer[];
  readonly producers: Producer[];

  /** @param allocate gives the memory of each bank */
  constructor(setup: Setup, estate: Estate, allocate: (byteLength: number) => Buffer) {
    this.setup = setup;
    this.estate = estate;
    this.banks = estate.sizes.map(allocate);
    this.banks.forEach((bank, i) => {
      estate.fill(i, bank, setup.seed);
    });
    this.producers = estate.places.map((place) => ({ place, writeIndex: BigInt(place.setup.readIndex), nextBlock: 0, holes: [] }));
    this.writeTables();
  }

  protected abstract poke(spot: Spot, bytes: ArrayLike<number>): void;
  protected abstract ring(number: number, value: number): void;

  protected spot(pasid: number, address: number): Spot {
    const piece = this.estate.holder(pasid, address) as Piece;
    return { bank: piece.bank, at: piece.offset + address - piece.start };
  }

  /** Bytes at an address, for who writes there before the function looks. */
  private at(pasid: number, address: number, length: number): Buffer {
    const { bank, at } = this.spot(pasid, address);
    return this.banks[bank].subarray(at, at + length);
  }

  private writeTables(): void {
    const { functionPasid, places } = this.estate;
    const table = (address: number, length: number) => this.at(functionPasid, address, length);
    table(L2, 4096)
      .fill(0)
      .writeBigUInt64LE(BigInt(L1) | 0xffen | 1n);
    table(L1, 4096).fill(0);
    for (const place of places) {
      const { setup, number } = place;
      const control = table(place.control, 64).fill(0);
      control.writeBigUInt64LE(BigInt(place.ring) | 0x11n | BigInt((number & 3) << 2) | (setup.csa ? 0x20n : 0n));
      control.writeUInt32LE(setup.ringEntries, 8);
      control.writeBigUInt64LE(BigInt(place.status) | 0xfn, 16);
      control.writeBigUInt64LE(BigInt(place.writeIndex) | 7n, 24);
      const l1 = table(L1 + number * 32, 32);
      l1.writeBigUInt64LE(BigInt(place.control) | (setup.pasid ? 7n : 3n));
      l1.writeBigUInt64LE(BigInt(place.akeys) | BigInt(setup.akeySize), 8);
      l1.writeUInt32LE((setup.pasid ? place.structurePasid : 0) | (setup.maxBuffer << 20), 16);
      l1.writeUInt32LE(setup.opGroups, 20);
      const keys = table(place.akeys, 4096 << setup.akeySize).fill(0);
      const far = 100 + number;
      const entry = (n: number, low: number, pasid = 0) => {
        keys.writeUInt32LE(low >>> 0, 16 * n);
        keys.writeUInt32LE(pasid, 16 * n + 4);
      };
      entry(0, 1);
      entry(1, 5, place.dataPasid < 0 ? far : place.dataPasid);
      entry(2, 2);
      entry(3, 1 | (5 << 16));
      entry(4, 3 | ((1 + number) << 4));
      entry(5, 3 | (2000 << 4));
      entry(6, 5, UNKNOWN_PASID);
      entry(7, 5, far);
      if (setup.akeySize > 0) entry(256, 1);
      const status = this.at(place.structurePasid, place.status, 16);
      status[0] = setup.state;
      status.writeBigUInt64LE(BigInt(setup.readIndex), 8);
      this.at(place.structurePasid, place.writeIndex, 8).writeBigUInt64LE(BigInt(setup.readIndex));
    }
  }

  /** CTL0 with a request. */
  protected request(request: number): bigint {
    return BigInt(request) | (this.estate.functionPasid === FUNCTION_PASID ? BigInt((FUNCTION_PASID << 8) | 4) : 0n);
  }

  protected state(place: Place): number {
    const { bank, at } = this.spot(place.structurePasid, place.status);
    return this.banks[bank][at];
  }

  protected readIndex(place: Place): bigint {
    const { bank, at } = this.spot(place.structurePasid, place.status + 8);
    return this.banks[bank].readBigUInt64LE(at);
  }

  protected poke64(pasid: number, address: number, value: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
    this.poke(this.spot(pasid, address), bytes);
  }

  /** Writes a whole slot; vl is seen last. */
  protected publish(spot: Spot, descriptor: Buffer): void {
    this.poke(spot, descriptor);
  }

  /** Descriptors that can be queued now. */
  protected room({ place, writeIndex }: Producer): bigint {
    return this.readIndex(place) + BigInt(place.setup.ringEntries) - writeIndex;
  }

  /** Claims slots, fills them but for the holes, and says so. Nothing happens when the ring is full. */
  protected submit(producer: Producer, ops: Op[], holes: number[], ring: boolean): void {
    const { place } = producer;
    const entries = BigInt(place.setup.ringEntries);
    if (this.room(producer) < ops.length) return;
    ops.forEach((given, i) => {
      const op = meant(given, place);
      const index = producer.writeIndex + BigInt(i);
      const block = place.csbs + 32 * (producer.nextBlock++ % 128);
      if (op.block.kind === 'fresh') {
        this.poke64(place.structurePasid, block, op.block.signal);
        this.poke(this.spot(place.structurePasid, block + 8), [0, 0, 0, 0]);
      }
      const bytes = encode(op, place, block);
      const spot = this.spot(place.structurePasid, place.ring + Number(index % entries) * 64);
      if (holes.includes(i)) {
        bytes[0] &= 0xfe;
        producer.holes.push(spot);
      }
      this.publish(spot, bytes);
    });
    producer.writeIndex += BigInt(ops.length);
    this.poke64(place.structurePasid, place.writeIndex, producer.writeIndex);
    if (ring) this.ring(place.number, Number(producer.writeIndex));
  }

  /** Writes what was left out. */
  protected fill(producer: Producer): void {
    for (const spot of producer.holes.splice(0)) this.poke(spot, [this.banks[spot.bank][spot.at] | 1]);
  }
}
