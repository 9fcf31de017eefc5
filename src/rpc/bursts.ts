// Bursts of streams on one connection: how many become calls in one turn of the event loop, and how many there may be before the connection ends.
//
// Node reads up to 64 KiB at a time and tells of every stream in it, hundreds, before it tells of a reset. A client that opens streams and resets
// them at once would so have each of them begin, and be ended, as a call. Here only the first few of a turn begin at once; the others wait for the
// next turns, by which those that were reset are gone.

import { constants, type Http2Server, type Http2Session, type IncomingHttpHeaders, type ServerHttp2Stream as Stream } from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import { boundCrumbs, refuseCompressed } from './stream-rules.ts';

type Opened = [stream: Stream, headers: IncomingHttpHeaders, flags: number, raw: string[]];
type Begin = (...opened: Opened) => void;

/** Calls of one connection that begin in one turn. */
const AT_ONCE = 4;

/** What a connection opened in this turn and in those before that it still waits for. */
interface Burst {
  begun: number;
  opened: number;
  readonly waiting: Opened[];
}

/**
 * Lets calls begin in turns, and ends a session that opens more streams in a turn than the `maxConcurrentStreams` it may have open. To be called after
 * the injector was made. Throws when grpc-js has changed.
 */
export function boundBursts(server: Server, maxConcurrentStreams: number): void {
  const { http2Servers } = server as unknown as { http2Servers: Map<Http2Server, unknown> };
  for (const http2Server of http2Servers.keys()) {
    const listeners = http2Server.listeners('stream') as Begin[];
    if (listeners.length === 0) throw new Error('grpc-js no longer listens for streams');
    http2Server.removeAllListeners('stream');
    http2Server.on(
      'stream',
      inTurns(maxConcurrentStreams, (...opened) => {
        const [stream, headers] = opened;
        if (refuseCompressed(stream, headers)) return;
        for (const listener of listeners) listener(...opened);
      }),
    );
  }
}

function inTurns(maxConcurrentStreams: number, begin: Begin): Begin {
  const bursts = new WeakMap<Http2Session, Burst>();
  const nextTurn = (session: Http2Session, burst: Burst): void => {
    burst.begun = 0;
    burst.opened = 0;
    while (burst.begun < AT_ONCE) {
      const next = burst.waiting.shift();
      if (next === undefined) break;
      if (next[0].destroyed) continue;
      burst.begun += 1;
      begin(...next);
    }
    if (burst.begun > 0) setImmediate(nextTurn, session, burst);
    else bursts.delete(session);
  };
  return (...opened) => {
    const [stream] = opened;
    // Until it is a call nobody else listens, and an error that nobody hears ends the process.
    stream.on('error', () => {});
    const { session } = stream;
    if (session === undefined || session.destroyed) return;
    boundCrumbs(stream);
    let burst = bursts.get(session);
    if (burst === undefined) {
      burst = { begun: 0, opened: 0, waiting: [] };
      bursts.set(session, burst);
      setImmediate(nextTurn, session, burst);
    }
    burst.opened += 1;
    if (burst.opened > maxConcurrentStreams) {
      session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (burst.begun < AT_ONCE && burst.waiting.length === 0) {
      burst.begun += 1;
      begin(...opened);
    } else {
      burst.waiting.push(opened);
    }
  };
}
