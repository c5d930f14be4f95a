/** A client that copies until it is killed: `killed.mjs SOCKET [messages]`. Says "copying" once the function is at it. */
import { ARENA_IOVA, DATA, Mini } from './mini.js';
import { RawClient } from './raw.js';

const [path, how] = process.argv.slice(2);
const client = new RawClient(path);
const device = new Mini(client, 8 << 20);
device.grant({ byMessages: how === 'messages' });
device.up();
let said = false;
for (let submitted = 0; ; ) {
  while (submitted - device.readIndex < 500) {
    device.copy(ARENA_IOVA + DATA, ARENA_IOVA + (4 << 20), 3 << 20);
    submitted++;
  }
  device.ring();
  const seen = device.readIndex;
  device.until('some of it', () => device.readIndex > seen);
  if (!said) process.stdout.write('copying\n');
  said = true;
}
