/**
 * The memory of a random program: who owns which bytes, where they are mapped, and what lies around them. Everything that
 * is not a {@link Piece} is guard: nobody may ever write there.
 */
import fc from 'fast-check';

export const OWN = -1;
export const FUNCTION_PASID = 9;
/** AKey 6 of every context names a PASID that the platform does not know (S-109). */
export const UNKNOWN_PASID = 0x77777;
export const VECTORS = 16;
export const CSBS = 128;

/** One mapping. It comes and goes and changes its access, but its bytes never move. */
export interface Piece {
  readonly what: string;
  /** Context that it belongs to; -1: the function. */
  readonly owner: number;
  readonly pasid: number;
  readonly start: number;
  readonly length: number;
  readonly bank: number;
  readonly offset: number;
  access: number;
  present: boolean;
}

export interface Segment {
  /** Unmapped bytes in front. */
  gap: number;
  length: number;
  access: number;
  bank: number;
}

export interface ContextSetup {
  ringEntries: number;
  readIndex: number;
  /** cxt_pasid is valid: the context has an address space of its own, where others have their numbers, too. */
  pasid: boolean;
  /** The ring lies in single pages, in turns of both banks. */
  scattered: boolean;
  data: Segment[];
  /** A second address space, reached through AKey 7. */
  far: Segment[];
  akeySize: number;
  maxBuffer: number;
  opGroups: number;
  csa: number;
  state: number;
}

export interface Setup {
  functionPasid: boolean;
  /** CAP0.cs_cap. */
  csCap: number;
  /** Records that the log has room for. */
  logRoom: number;
  seed: number;
  /** Context 0 and the others. */
  contexts: ContextSetup[];
}

/** Where a context's things lie. */
export interface Place {
  readonly number: number;
  readonly setup: ContextSetup;
  readonly structurePasid: number;
  readonly dataPasid: number;
  readonly control: number;
  readonly akeys: number;
  readonly status: number;
  readonly writeIndex: number;
  readonly csbs: number;
  readonly ring: number;
  readonly data: { start: number; length: number }[];
  readonly far: { start: number; length: number }[];
}

export const L2 = 0x10_0000;
export const L1 = 0x10_2000;
export const LOG = 0x10_4000;
const TABLES = 0x20_0000;
const RINGS = 0x1_0000;
const DATA = 0x10_0000;
const FAR = 0x7000_0000;

/** Fewest guard bytes between two pieces of a bank. */
const GUARD = 16;

export class Estate {
  readonly pieces: Piece[] = [];
  readonly places: Place[] = [];
  /** Bytes of each bank. */
  readonly sizes = [GUARD, GUARD];
  readonly functionPasid: number;
  private readonly modulo: number;

  /** @param modulo addresses and bank offsets agree modulo this: 8 is what mappings need, 4096 what a bus needs */
  constructor(setup: Setup, modulo = 8) {
    this.modulo = modulo;
    this.functionPasid = setup.functionPasid ? FUNCTION_PASID : OWN;
    const own = { owner: -1, pasid: this.functionPasid, access: 3, bank: 0 };
    this.add({ ...own, what: 'L2', start: L2, length: 4096 });
    this.add({ ...own, what: 'L1', start: L1, length: 4096 });
    this.add({ ...own, what: 'log', start: LOG, length: 4096 });
    setup.contexts.forEach((context, number) => {
      this.addContext(number, context);
    });
    this.sizes[0] = Math.ceil((this.sizes[0] + GUARD) / 4096) * 4096;
    this.sizes[1] = Math.ceil((this.sizes[1] + GUARD) / 4096) * 4096;
  }

  private addContext(number: number, setup: ContextSetup): void {
    const pasid = 20 + number;
    const structurePasid = setup.pasid ? pasid : this.functionPasid;
    const dataPasid = setup.pasid ? pasid : OWN;
    // Contexts with a PASID of their own all use the same numbers.
    const base = setup.pasid ? 0x4000_0000 : 0x100_0000 * (number + 1);
    const control = TABLES + number * 0x1_0000;
    const place: Place = {
      number,
      setup,
      structurePasid,
      dataPasid,
      control,
      akeys: control + 0x2000,
      status: base,
      writeIndex: base + 0x1040,
      csbs: base + 0x2000,
      ring: base + RINGS,
      data: this.segments(number, 'data', dataPasid, base + DATA, setup.data),
      far: this.segments(number, 'far', 100 + number, FAR, setup.far),
    };
    const tables = { owner: number, pasid: this.functionPasid, access: 3, bank: 0 };
    this.add({ ...tables, what: 'CXT_CTL', start: control, length: 64 });
    this.add({ ...tables, what: 'AKeys', start: place.akeys, length: 4096 << setup.akeySize });
    const own = { owner: number, pasid: structurePasid, access: 3, bank: 0 };
    this.add({ ...own, what: 'CXT_STS', start: place.status, length: 16 });
    this.add({ ...own, what: 'Write_Index', start: place.writeIndex, length: 8 });
    this.add({ ...own, what: 'CSBs', start: place.csbs, length: CSBS * 32 });
    const bytes = setup.ringEntries * 64;
    const step = setup.scattered ? 4096 : bytes;
    for (let done = 0; done < bytes; done += step) {
      this.add({ ...own, what: 'ring', start: place.ring + done, length: Math.min(step, bytes - done), bank: (done / step) & 1 });
    }
    this.places.push(place);
  }

  /** Adds the pieces. @returns the stretches that they form where no gap parts them */
  private segments(owner: number, what: string, pasid: number, base: number, segments: Segment[]): { start: number; length: number }[] {
    const stretches: { start: number; length: number }[] = [];
    let at = base;
    for (const { gap, length, access, bank } of segments) {
      const start = at + gap;
      at = start + length;
      this.add({ what, owner, pasid, start, length, access, bank });
      if (gap === 0 && stretches.length > 0) stretches[stretches.length - 1].length += length;
      else stretches.push({ start, length });
    }
    return stretches;
  }

  private add(piece: Omit<Piece, 'offset' | 'present'>): void {
    const { modulo } = this;
    const free = this.sizes[piece.bank] + GUARD;
    const offset = free + ((((piece.start - free) % modulo) + modulo) % modulo);
    this.sizes[piece.bank] = offset + piece.length;
    this.pieces.push({ ...piece, offset, present: true });
  }

  /** The piece that holds an address, whether or not it is mapped now. */
  holder(pasid: number, address: number): Piece | undefined {
    return this.pieces.find((p) => p.pasid === pasid && address >= p.start && address < p.start + p.length);
  }

  /** Random bytes for a bank; ring slots get vl = 0, as an earlier lap leaves them. */
  fill(bank: number, bytes: Uint8Array, seed: number): void {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
    let state = (seed ^ (bank * 0x9e37_79b9)) >>> 0 || 1;
    for (let i = 0; i < words.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[i] = state;
    }
    for (const { what, bank: home, offset, length } of this.pieces) {
      if (home !== bank) continue;
      // Some data is one byte all over: fills from such a block may take a way of their own.
      if (what === 'data' && length % 3 === 1) bytes.fill(length & 0xff, offset, offset + length);
      if (what !== 'ring') continue;
      for (let at = 0; at < length; at += 64) bytes[offset + at] &= 0xfe;
    }
  }
}

// ---- Random setups

const access = fc.oneof({ weight: 20, arbitrary: fc.constant(3) }, { weight: 1, arbitrary: fc.constantFrom(1, 2) });

const segment: fc.Arbitrary<Segment> = fc.record({
  gap: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.constantFrom(1, 8, 24, 4096) }),
  length: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 300 }) },
    { weight: 3, arbitrary: fc.constantFrom(64, 4096, 8192, 40_000) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 40_000 }) },
  ),
  access,
  bank: fc.nat(1),
});

/** More than a slice can move at once (S-88). */
const largeSegment: fc.Arbitrary<Segment> = fc.record({
  gap: fc.constantFrom(0, 8),
  length: fc.constantFrom(700_000, 350_001),
  access: fc.constant(3),
  bank: fc.nat(1),
});

/** Every context has something to work with. */
const PAGES: Segment = { gap: 8, length: 12_288, access: 3, bank: 1 };

export interface SetupOptions {
  /** Contexts besides context 0. */
  contexts: number;
  /** Every how many contexts have data of more than a slice; 0: none. */
  large: number;
}

const context = ({ large }: SetupOptions): fc.Arbitrary<ContextSetup> =>
  fc.record({
    ringEntries: fc.oneof(fc.constantFrom(1024, 1025, 1087, 1500), fc.integer({ min: 1024, max: 1500 })),
    readIndex: fc.oneof({ weight: 4, arbitrary: fc.nat(4000) }, { weight: 2, arbitrary: fc.constantFrom(0, 2 ** 32 - 7, 2 ** 53 - 20) }),
    pasid: fc.boolean(),
    scattered: fc.boolean(),
    data: fc
      .tuple(
        fc.array(segment, { minLength: 1, maxLength: 6, size: 'max' }).map((segments) => [...segments, PAGES]),
        large > 0
          ? fc.oneof(
              { weight: large - 1, arbitrary: fc.constant([]) },
              { weight: 1, arbitrary: fc.array(largeSegment, { minLength: 1, maxLength: 2 }) },
            )
          : fc.constant([]),
      )
      .map(([small, more]) => [...more, ...small]),
    far: fc.array(segment, { maxLength: 2 }),
    akeySize: fc.constantFrom(0, 0, 0, 1),
    maxBuffer: fc.constantFrom(11, 11, 0),
    opGroups: fc.oneof({ weight: 12, arbitrary: fc.constant(0x18) }, { weight: 1, arbitrary: fc.constantFrom(0x08, 0x10, 0) }),
    csa: fc.nat(1),
    state: fc.constantFrom(1, 1, 1, 1, 0, 4, 0xf),
  });

export const setups = (options: SetupOptions): fc.Arbitrary<Setup> =>
  fc.record({
    functionPasid: fc.boolean(),
    csCap: fc.constantFrom(0, 0, 1),
    logRoom: fc.oneof({ weight: 3, arbitrary: fc.constant(64) }, { weight: 1, arbitrary: fc.nat(6) }),
    seed: fc.integer(),
    contexts: fc
      .tuple(
        context({ ...options, large: 0 }).map((admin) => ({ ...admin, state: 1 })),
        fc.array(context(options), { minLength: 1, maxLength: options.contexts, size: 'max' }),
      )
      .map(([admin, others]) => [admin, ...others]),
  });
