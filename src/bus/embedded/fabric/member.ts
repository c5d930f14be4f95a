import type { MemberEnd } from '../../../fabric/thread-fabric.js';
import type { InterruptPort } from '../../../function/ports.js';
import type { AddressSpaces } from '../../../memory/address-space.js';
import { Channel, type ChannelShape, Life } from '../channel.js';
import { EngineMemory } from '../engine-memory.js';

/** What an engine is told about another member. */
export interface MemberShare {
  readonly index: number;
  readonly buffer: SharedArrayBuffer;
  readonly shape: ChannelShape;
  /** It may keep copies of its RKey entries. */
  readonly caches: boolean;
}

/** Another embedded function of the fabric: its channel, and its memory as this engine maps it. */
export class EmbeddedMember implements MemberEnd {
  readonly index: number;
  readonly caches: boolean;
  readonly mappings = new EngineMemory();
  readonly interrupts: InterruptPort;
  private readonly channel: Channel;

  constructor({ index, buffer, shape, caches }: MemberShare) {
    const channel = new Channel(shape, buffer);
    this.index = index;
    this.caches = caches;
    this.channel = channel;
    this.interrupts = channel.interrupts;
  }

  get memory(): AddressSpaces {
    return this.mappings.spaces;
  }

  running(): boolean {
    return this.channel.life === Life.RUNNING;
  }

  fail(reason: string): void {
    this.channel.fail(reason);
  }
}
