/** Entry of a thread that watches the event counters of a bus; its `workerData` is {@link WatchData}. */
import { workerData } from 'node:worker_threads';
import { runWatch, type WatchData } from './loop.js';

runWatch(workerData as WatchData);
