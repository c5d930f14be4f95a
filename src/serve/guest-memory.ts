import { Access, ADDRESS_LIMIT, AddressSpaces, type MappingWatch, NO_PASID } from '../memory/address-space.js';
import { MappingLedger } from '../memory/ledger.js';
import { WINDOW_MAX, type Window } from '../memory/window.js';
import { Errno } from '../native/socket.js';
import { MAX_DMA_MAPS } from '../vfio-user/messages.js';
import { DirtyLog } from './dirty-log.js';
import { GuestFiles, type MappedFile, Refusal } from './files.js';
import type { Room } from './limits.js';
import { type DmaPort, MessageMemory } from './message-memory.js';

const PAGE_BYTES = 4096;

/** What a DMA_MAP asks for. */
export interface DmaMap {
  readonly address: number;
  readonly byteLength: number;
  /** Bits of Access. */
  readonly access: number;
  /** Of the first byte in its file. */
  readonly offset: number;
  /** Its file; without one the bytes are reached by messages. */
  readonly fd?: number;
}

/** What one mapping of the client consists of. */
export interface Held {
  readonly address: number;
  readonly byteLength: number;
  readonly access: number;
  readonly offset: number;
  readonly file?: MappedFile;
  /** Process address and length of the private copy, for memory without a file. */
  readonly shadow?: { readonly address: number; readonly byteLength: number };
}

/** Who is told of mappings besides: other functions of the group, a trace. */
export interface MemoryObserver {
  mapped(held: Held): void;
  /** Returns when nobody uses it any more (S-102). */
  unmapped(held: Held): void;
}

/**
 * The memory that a client has granted: its DMA_MAPs in force, which do not overlap. Nothing else of the client is within the function's
 * reach.
 */
export class GuestMemory {
  readonly spaces = new AddressSpaces();
  readonly log = new DirtyLog();
  private readonly files: GuestFiles;
  private readonly messages: MessageMemory;
  private readonly ledger = new MappingLedger<Held>();
  private readonly observer: MemoryObserver;
  private maps = 0;

  constructor(options: { allowShrinkable: boolean; room: Room }, port: DmaPort, observer: MemoryObserver) {
    this.files = new GuestFiles(options);
    this.messages = new MessageMemory(port, this.log, options.room);
    this.observer = observer;
    this.spaces.bind(NO_PASID);
  }

  /** Some of it is reached by messages. */
  get byMessages(): boolean {
    return this.messages.size > 0;
  }

  /** Mappings in force. */
  get size(): number {
    return this.maps;
  }

  /** @returns undefined, or why not; nothing is mapped then */
  map(request: DmaMap): Refusal | undefined {
    const { address, byteLength, access, offset, fd } = request;
    const bad = (why: string, errno: number = Errno.EINVAL) => new Refusal(errno, why);
    if (address < 0 || byteLength <= 0 || byteLength > ADDRESS_LIMIT - address) return bad('it is no range of addresses below 2^53');
    if (address % PAGE_BYTES !== 0 || byteLength % PAGE_BYTES !== 0) return bad('it does not consist of whole pages of 4096 bytes');
    if (access === 0) return bad('it grants neither reading nor writing');
    if (offset < 0 || offset % PAGE_BYTES !== 0 || offset > ADDRESS_LIMIT - byteLength) return bad('its file offset is no whole page');
    if (this.maps >= MAX_DMA_MAPS) return bad(`there are ${MAX_DMA_MAPS} mappings already`, Errno.ENOSPC);
    const space = this.spaces.bind(NO_PASID);
    if (space.overlaps(address, byteLength))
      return bad(`of the ${byteLength} bytes at 0x${address.toString(16)} some are mapped already`, Errno.EEXIST);
    let held: Held;
    if (fd === undefined) {
      const shadow = this.messages.open(byteLength);
      if (shadow instanceof Refusal) return shadow;
      held = { address, byteLength, access, offset: 0, shadow: shadow.part };
      this.place(held, shadow.windows, this.messages);
    } else {
      const file = this.files.acquire(fd, offset + byteLength, (access & Access.WRITE) !== 0);
      if (file instanceof Refusal) return file;
      held = { address, byteLength, access, offset, file };
      this.place(held, file.windows, this.log.active ? this.log : undefined);
    }
    this.ledger.add(NO_PASID, address, byteLength, held);
    this.maps++;
    this.observer.mapped(held);
    return undefined;
  }

  private place({ address, byteLength, access, offset }: Held, windows: readonly Window[], watch: MappingWatch | undefined): void {
    const space = this.spaces.bind(NO_PASID);
    for (let done = 0; done < byteLength; ) {
      const position = offset + done;
      const within = position % WINDOW_MAX;
      const length = Math.min(byteLength - done, WINDOW_MAX - within);
      space.map(address + done, length, access as Access, windows[Math.floor(position / WINDOW_MAX)], within, watch);
      done += length;
    }
  }

  /**
   * Takes back every mapping in a range: usually one, but a guest that leaves its IOMMU domain takes all of it back at once, as with
   * the kernel's type 1 interface.
   * @returns undefined, or why not: ENOENT when nothing is mapped there, EINVAL when it would cut a mapping in two
   */
  unmap(address: number, byteLength: number): Refusal | undefined {
    if (address < 0 || byteLength <= 0) return new Refusal(Errno.EINVAL, 'it is no range of addresses');
    let inside: ReturnType<typeof this.ledger.inside>;
    try {
      inside = this.ledger.inside(NO_PASID, address, byteLength);
    } catch {
      return new Refusal(Errno.EINVAL, 'it would cut a mapping in two');
    }
    if (inside.length === 0) return new Refusal(Errno.ENOENT, `nothing is mapped at 0x${address.toString(16)}, in ${byteLength} bytes`);
    for (const { note } of inside) this.remove(note);
    return undefined;
  }

  private remove(held: Held): void {
    const { address, byteLength, file, shadow } = held;
    this.spaces.bind(NO_PASID).unmap(address, byteLength);
    this.ledger.delete(NO_PASID, address);
    this.maps--;
    this.observer.unmapped(held);
    if (file) this.files.release(file);
    if (shadow) this.messages.close(shadow);
  }

  /** There is something to be let go. */
  get untidy(): boolean {
    return this.files.untidy;
  }

  /** There is nothing else to do. */
  tidy(): void {
    this.files.sweep();
  }

  /** The client is gone, and all it has granted with it. */
  clear(): void {
    for (const { note } of [...this.ledger.all()]) this.remove(note);
    this.files.sweep();
  }

  /** From now on the pages that the function writes are noted down. */
  startLog(pageBytes: number, ranges: readonly { start: number; end: number }[]): void {
    this.log.start(pageBytes, ranges);
    for (const mapping of this.spaces.bind(NO_PASID)) mapping.watch ??= this.log;
  }

  stopLog(): void {
    this.log.stop();
    for (const mapping of this.spaces.bind(NO_PASID)) if (mapping.watch === this.log) mapping.watch = undefined;
  }

  /** What the function has written into memory without a file is sent. */
  flush(): void {
    this.messages.flush();
  }

  /** What the function has written into memory without a file is where the client sees it: before an interrupt announces it. */
  deliver(): void {
    this.messages.deliver();
  }

  endStep(): void {
    this.messages.endStep();
  }

  /** All mappings, for a newcomer of the group. */
  *held(): Generator<Held> {
    for (const { note } of this.ledger.all()) yield note;
  }
}
