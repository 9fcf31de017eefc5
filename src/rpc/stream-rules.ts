// What a stream must not be, whatever it calls: compressed, or cut into crumbs. Both cost a server many times what they cost who sends them, and no
// client needs them: our messages are small, or packets that do not get smaller.

import { constants, type IncomingHttpHeaders, type ServerHttp2Stream as Stream } from 'node:http2';
import { TaplaneError } from '../errors.ts';
import { toServiceError } from './status.ts';

/** Looked at together. */
const FRAMES = 256;
/** Of DATA frames, on average: a message of gRPC has 5 before it begins. */
const LEAST_BYTES = 5;

/** Ends a call that would send compressed messages, with a status that says so; answers whether it did. */
export function refuseCompressed(stream: Stream, headers: IncomingHttpHeaders): boolean {
  const encoding = headers['grpc-encoding'];
  if (encoding === undefined || encoding === 'identity') return false;
  const path = String(headers[':path']);
  const error = new TaplaneError(
    'UNIMPLEMENTED',
    'COMPRESSION_UNSUPPORTED',
    `call ${path}: messages compressed with ${String(encoding)} are not taken; turn compression off in the client`,
    { metadata: { encoding: String(encoding) } },
  );
  const { code, details, metadata } = toServiceError(error);
  const fields = { ':status': 200, 'content-type': 'application/grpc', 'grpc-accept-encoding': 'identity' };
  const status = { 'grpc-status': String(code), 'grpc-message': encodeURI(details), ...metadata.toHttp2Headers() };
  stream.respond({ ...fields, ...status }, { endStream: true });
  stream.close(constants.NGHTTP2_NO_ERROR);
  return true;
}

/** Ends the connection of a stream whose DATA frames hold next to nothing. To be called before the first of them is read. */
export function boundCrumbs(stream: Stream): void {
  let frames = 0;
  let bytes = 0;
  const push = stream.push.bind(stream);
  stream.push = (chunk: Buffer | null, encoding?: BufferEncoding): boolean => {
    if (chunk === null) return push(chunk, encoding);
    frames += 1;
    bytes += chunk.length;
    if (frames < FRAMES) return push(chunk, encoding);
    if (bytes < LEAST_BYTES * FRAMES) {
      stream.session?.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return false;
    }
    frames = 0;
    bytes = 0;
    return push(chunk, encoding);
  };
}
