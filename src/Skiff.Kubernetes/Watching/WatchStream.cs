using System.Buffers;
using System.IO.Pipelines;
using System.Text.Json;

namespace Skiff.Kubernetes.Watching;

/// <summary>What came next on a watch.</summary>
internal enum WatchItemKind
{
    /// <summary>An object is there or has changed.</summary>
    Upserted,

    /// <summary>An object is gone; its last state comes with it.</summary>
    Deleted,

    /// <summary>Nothing has happened up to a resource version.</summary>
    Bookmark,

    /// <summary>The server ended the watch; go on from the last resource version.</summary>
    End,

    /// <summary>The watch is broken.</summary>
    Failed,
}

/// <summary>One event of a watch, or its end.</summary>
internal readonly record struct WatchItem<T>(WatchItemKind Kind, T? Object, string? ResourceVersion, ApiError? Error)
    where T : class;

/// <summary>
/// The events of one watch request: JSON documents, one a line. A line that is not whole when the connection ends is dropped; the next
/// watch brings its event again.
/// </summary>
internal sealed class WatchStream<T> : IAsyncDisposable
    where T : class, IResource
{
    private readonly ResourceKind<T> _kind;
    private readonly HttpResponseMessage _response;
    private readonly PipeReader _reader;
    private readonly int _longestLine;

    internal WatchStream(ResourceKind<T> kind, HttpResponseMessage response, Stream body, int longestLine)
    {
        _kind = kind;
        _response = response;
        _reader = PipeReader.Create(body);
        _longestLine = longestLine;
    }

    public async ValueTask DisposeAsync()
    {
        await _reader.CompleteAsync().ConfigureAwait(false);
        _response.Dispose();
    }

    /// <summary>Waits for the next event.</summary>
    internal async Task<WatchItem<T>> ReadAsync(CancellationToken cancellation)
    {
        long searched = 0; // of a line that comes in many pieces, what is known to hold no line end
        while (true)
        {
            ReadResult result;
            try
            {
                result = await _reader.ReadAsync(cancellation).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or HttpRequestException)
            {
                return Failed(ApiErrorKind.Unreachable, $"the connection broke: {e.Message}");
            }

            var buffer = result.Buffer;
            var rest = buffer.Slice(searched);
            if (rest.PositionOf((byte)'\n') is { } end)
            {
                var line = buffer.Slice(0, end);
                if (line.Length > _longestLine)
                {
                    return TooLong();
                }

                WatchItem<T>? item = line.IsEmpty ? null : Parse(line);
                _reader.AdvanceTo(buffer.GetPosition(1, end));
                searched = 0;
                if (item is { } found)
                {
                    return found;
                }

                continue;
            }

            if (buffer.Length > _longestLine)
            {
                return TooLong();
            }

            searched = buffer.Length;
            _reader.AdvanceTo(buffer.Start, buffer.End);
            if (result.IsCompleted)
            {
                return new WatchItem<T>(WatchItemKind.End, null, null, null);
            }
        }
    }

    private WatchItem<T> TooLong() => Failed(ApiErrorKind.Malformed, $"an event is larger than {_longestLine} bytes");

    private WatchItem<T> Failed(ApiErrorKind kind, string message) =>
        new(WatchItemKind.Failed, null, null, new ApiError(kind, $"watch of {_kind.Plural}: {message}"));

    private WatchItem<T> Parse(in ReadOnlySequence<byte> line)
    {
        try
        {
            return ParseEvent(line);
        }
        catch (JsonException e)
        {
            return Failed(ApiErrorKind.Malformed, e.Message);
        }
    }

    private WatchItem<T> ParseEvent(in ReadOnlySequence<byte> line)
    {
        var reader = new Utf8JsonReader(line);
        string? type = null;
        ReadOnlySequence<byte>? body = null;
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("an event is an object");
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("type"u8))
            {
                _ = reader.Read();
                type = reader.TokenType == JsonTokenType.String ? reader.GetString() : null;
            }
            else if (reader.ValueTextEquals("object"u8))
            {
                // How it is read depends on the type, which may come after it.
                _ = reader.Read();
                var start = reader.TokenStartIndex;
                reader.Skip();
                body = line.Slice(start, reader.BytesConsumed - start);
            }
            else
            {
                reader.Skip();
            }
        }

        if (type is null || body is not { } json)
        {
            throw new JsonException("an event has a type and an object");
        }

        var inner = new Utf8JsonReader(json);
        switch (type)
        {
            case "BOOKMARK":
                return new WatchItem<T>(WatchItemKind.Bookmark, null, JsonSerializer.Deserialize(ref inner, WireJson.Default.BookmarkBody)?.Metadata.ResourceVersion, null);
            case "ERROR":
                var status = JsonSerializer.Deserialize(ref inner, WireJson.Default.StatusBody);
                return new WatchItem<T>(WatchItemKind.Failed, null, null, ApiError.FromStatus($"watch of {_kind.Plural}", status?.Code ?? 500, status, null));
            case "ADDED" or "MODIFIED" or "DELETED":
                var resource = JsonSerializer.Deserialize(ref inner, _kind.Json);
                return resource is { Metadata.Name: not null }
                    ? new WatchItem<T>(type == "DELETED" ? WatchItemKind.Deleted : WatchItemKind.Upserted, resource, resource.Metadata.ResourceVersion, null)
                    : throw new JsonException("an object without a name");
            default:
                throw new JsonException($"unknown type of event {type}");
        }
    }
}
