import { setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Bus } from '../../../src/bus/bus.js';
import { EmbeddedBus } from '../../../src/bus/embedded/embedded.js';
import { InlineBus } from '../../../src/bus/embedded/inline.js';
import { NO_PASID } from '../../../src/memory/address-space.js';
import { allocateRegion, type Region } from '../../../src/memory/region.js';
import { FunctionState, Reg } from '../../../src/spec/index.js';
import { CSBS, Estate, LOG, OWN, type Piece, type Setup, setups, VECTORS } from './estate.js';
import { type Op, type Operand, ops } from './program.js';
import type { Spot } from './reference.js';
import { CXT_L2_VALUE, ERR_CFG_ON, FIRST_RECORD, type Producer, Software } from './software.js';

const CONTEXTS = 3;
const ATTEMPTS = 5000;

/** What happens while the function works, until it rests; and what happens then. */
interface Phase {
  submissions: { context: number; ops: Op[]; hole: number; budget: number }[];
  fill: boolean;
  admin: Op[];
  /** A piece that is taken away, or given back. */
  piece: number;
  access: number;
  stop: boolean;
}

const phases: fc.Arbitrary<Phase[]> = fc.array(
  fc.record({
    submissions: fc.array(
      fc.record({
        context: fc.integer({ min: 1, max: CONTEXTS }),
        ops: fc.array(ops({ large: true, admin: false }), { minLength: 1, maxLength: 20, size: 'max' }),
        hole: fc.nat(60),
        budget: fc.nat(30),
      }),
      { minLength: 1, maxLength: 6, size: 'max' },
    ),
    fill: fc.boolean(),
    admin: fc.array(ops({ large: false, admin: true }), { maxLength: 3 }),
    piece: fc.nat(500),
    access: fc.constantFrom(0, 1, 2, 3, 3, 3, 3),
    stop: fc.constantFrom(false, false, false, true),
  }),
  { minLength: 1, maxLength: 5 },
);

/** Software on a bus. What it stores is seen by another thread at once, so the order matters here. */
class BusWorld extends Software {
  readonly bus: Bus;
  private readonly regions: Region[];
  private readonly before: number[];
  private readonly original = new Map<Piece, number>();
  /** Read_Index of each context when the function last rested. */
  private rested: bigint[] = [];

  constructor(bus: Bus, setup: Setup) {
    const regions: Region[] = [];
    super(setup, new Estate(setup, 4096), (byteLength) => {
      const region = allocateRegion(byteLength);
      regions.push(region);
      return Buffer.from(region.bytes.buffer);
    });
    this.bus = bus;
    this.regions = regions;
    this.before = Array.from({ length: VECTORS }, (_, vector) => bus.interruptCount(vector));
    for (const piece of this.estate.pieces) {
      this.original.set(piece, piece.access);
      this.map(piece);
    }
    bus.writeRegister(Reg.CXT_L2, CXT_L2_VALUE);
    bus.writeRegister(Reg.ERR_CTL, 1n);
    bus.writeRegister(Reg.ERR_CFG, ERR_CFG_ON);
    bus.writeRegister(Reg.ERR_WRT, FIRST_RECORD);
    bus.writeRegister(Reg.ERR_RD, FIRST_RECORD);
    bus.writeRegister(Reg.CTL0, this.request(3));
  }

  protected poke({ bank, at }: Spot, bytes: ArrayLike<number>): void {
    this.banks[bank].set(bytes, at);
  }

  /** The body first, then the dword with vl (ref §6.1 steps 4 to 6). */
  protected override publish(spot: Spot, descriptor: Buffer): void {
    const { bank, at } = spot;
    this.banks[bank].set(descriptor.subarray(4), at + 4);
    Atomics.store(new Int32Array(this.regions[bank].bytes.buffer as ArrayBuffer, at, 1), 0, descriptor.readInt32LE());
  }

  protected ring(number: number, value: number): void {
    this.bus.writeDoorbell(number * 4096, value % 2 ** 53);
  }

  private map({ pasid, start, length, access, bank, offset }: Piece): void {
    const place = pasid === OWN ? NO_PASID : pasid;
    // A bus asks that the DMA address agrees with the memory modulo 4096, and regions start on pages.
    this.bus.map({ iova: start, region: this.regions[bank], offset, byteLength: length, access: access as 1 | 2 | 3, pasid: place });
  }

  remap(number: number, access: number): void {
    // Without CXT_STS it depends on how doorbells merge whether a context is in the running set (S-75, S-71).
    const pieces = this.estate.pieces.filter(({ what }) => what !== 'CXT_STS');
    const piece = pieces[number % pieces.length];
    if (piece.present) this.bus.unmap(piece.start, piece.length, piece.pasid === OWN ? NO_PASID : piece.pasid);
    piece.present = access !== 0;
    piece.access = access === 3 ? (this.original.get(piece) as number) : access;
    if (piece.present) this.map(piece);
  }

  /** A context runs, whatever stopped it. */
  start(number: number): void {
    const { place } = this.producers[number];
    if (this.state(place) !== 1) this.poke(this.spot(place.structurePasid, place.status), [1]);
    this.ring(place.number, 0);
  }

  /** The log is read, and may be interrupted about anew. */
  readLog(): void {
    this.bus.writeRegister(Reg.ERR_STS, 0xbn);
    this.bus.writeRegister(Reg.ERR_RD, this.bus.readRegister(Reg.ERR_WRT));
  }

  queue(context: number, list: Op[], hole: number): void {
    const producer = this.producers[Math.min(context, this.producers.length - 1)];
    // Software writes rings and completion blocks while others are read: copies of those would be of either moment.
    const calm = (operand: Operand): Operand =>
      operand.anchor === 'csb' || operand.anchor === 'ring' ? { ...operand, anchor: 'inside' } : operand;
    const operations = list.map((op) => ({ ...op, from: calm(op.from), to: calm(op.to) }));
    this.submit(producer, operations, [hole], true);
  }

  fillHoles(): void {
    for (const producer of this.producers) {
      this.fill(producer);
      this.ring(producer.place.number, 0);
    }
  }

  /** A soft stop and a new activation. */
  async restart(): Promise<void> {
    this.bus.writeRegister(Reg.CTL0, this.request(1));
    const stopped = () => this.bus.readRegister(Reg.STS0) === BigInt(FunctionState.STOP);
    await this.bus.wait(stopped, { what: 'soft stop', timeoutMs: 5000 });
    this.bus.writeRegister(Reg.CTL0, this.request(3));
  }

  /** All that two runs must agree on: every byte, with the log sorted, for contexts are not ordered with each other (ref §6.3). */
  picture(): { banks: Buffer[]; interrupts: number[]; errors: bigint } {
    const log = this.spot(this.estate.functionPasid, LOG);
    const banks = this.banks.map((bank) => Buffer.from(bank));
    const page = banks[log.bank].subarray(log.at, log.at + 4096);
    const records = Array.from({ length: 64 }, (_, i) => Buffer.from(page.subarray(64 * i, 64 * i + 64)));
    Buffer.concat(records.sort((a, b) => a.compare(b))).copy(page);
    return {
      banks,
      interrupts: this.before.map((count, vector) => (this.bus.interruptCount(vector) - count) >>> 0),
      errors: this.bus.readRegister(Reg.ERR_WRT),
    };
  }

  /** Whether nothing is left in a context's ring. */
  served(context: number): boolean {
    const { place, writeIndex } = this.producers[context];
    return this.readIndex(place) === writeIndex;
  }

  /** The function rests: what software sees now is the same in every world. */
  rest(): void {
    this.rested = this.producers.map(({ place }) => this.readIndex(place));
  }

  /** A completion block is not armed again while a descriptor that uses it is in the ring, as far as is known for certain. */
  protected override room({ writeIndex, place }: Producer): bigint {
    return this.rested[place.number] + BigInt(CSBS) - writeIndex;
  }

  /** What changes last for each context. */
  progress(): string {
    const states = this.producers.map(({ place }) => {
      const { bank, at } = this.spot(place.structurePasid, place.status);
      return this.banks[bank].toString('hex', at, at + 16);
    });
    return `${states.join()} ${this.bus.readRegister(Reg.ERR_WRT)}`;
  }

  /** The function is as new, and has no memory. */
  leave(): void {
    this.bus.reset();
    for (const piece of this.estate.pieces)
      if (piece.present) this.bus.unmap(piece.start, piece.length, piece.pasid === OWN ? NO_PASID : piece.pasid);
  }
}

describe('the same program on this thread and on an engine thread', () => {
  const uri = 'embedded:?maxContext=63';
  const options = { vectors: VECTORS };
  let threaded: EmbeddedBus;
  let inline: InlineBus;
  beforeAll(async () => {
    threaded = await EmbeddedBus.open(uri, options);
    inline = new InlineBus(`${uri}&inline=1`, options);
  });
  afterAll(async () => {
    await threaded.close();
    await inline.close();
  });

  /** Steps the one until it rests, waits until the other has got as far, and compares everything. */
  async function agree(here: BusWorld, there: BusWorld): Promise<void> {
    while (inline.step(64) > 0);
    const goal = here.progress();
    const deadline = performance.now() + ATTEMPTS;
    while (there.progress() !== goal) {
      if (performance.now() > deadline) expect(there.progress()).toBe(goal);
      await pause(0);
    }
    here.rest();
    there.rest();
    const [a, b] = [here.picture(), there.picture()];
    expect({ interrupts: b.interrupts, errors: b.errors }).toEqual({ interrupts: a.interrupts, errors: a.errors });
    a.banks.forEach((bank, i) => {
      if (bank.equals(b.banks[i])) return;
      const at = bank.findIndex((byte, n) => byte !== b.banks[i][n]);
      const piece = here.estate.pieces.find((p) => p.bank === i && at >= p.offset && at < p.offset + p.length);
      const where = piece ? `${piece.what} of ${piece.owner}, byte ${at - piece.offset}` : `guard byte ${at} of bank ${i}`;
      throw new Error(`${where}: 0x${bank[at].toString(16)} inline, 0x${b.banks[i][at].toString(16)} threaded`);
    });
  }

  it('leaves the same memory, interrupts and errors', { timeout: 600_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(setups({ contexts: CONTEXTS, large: 3 }), phases, async (setup, list) => {
        // At which descriptor an index passes 2^53 (S-103) is a matter of moments, too.
        const contexts = setup.contexts.map((context) => ({ ...context, readIndex: Math.min(context.readIndex, 2 ** 32 - 7) }));
        const roomy = { ...setup, contexts, csCap: 0, logRoom: 64 };
        const here = new BusWorld(inline, roomy);
        const there = new BusWorld(threaded, roomy);
        try {
          for (const phase of list) {
            for (const world of [here, there]) world.start(0);
            await agree(here, there);
            for (const world of [here, there]) {
              for (let number = 1; number < world.producers.length; number++) world.start(number);
              for (const { context, ops: operations, hole, budget } of phase.submissions) {
                world.queue(context, operations, hole);
                if (world === here) inline.step(budget);
              }
              if (phase.fill) world.fillHoles();
            }
            await agree(here, there);
            // Context 0 acts upon the others, which rest; what it starts may run before its next descriptor or after.
            for (const op of phase.admin) {
              if (!here.served(0)) break;
              for (const world of [here, there]) world.queue(0, [op], -1);
              await agree(here, there);
            }
            for (const world of [here, there]) {
              if (phase.stop) await world.restart();
              world.remap(phase.piece, phase.access);
              world.readLog();
            }
          }
        } finally {
          here.leave();
          there.leave();
        }
      }),
      // Another run of a failure may be a success: what shrinking would find is anybody's guess.
      { numRuns: Number(process.env.SDXI_RUNS ?? 25), endOnFailure: true },
    );
  });
});
