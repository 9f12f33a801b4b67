using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Wasmtime;

namespace Skiff.Run;

/// <summary>
/// The guest's linear memories under a limit of their own: what would grow them beyond it fails inside the guest (<c>memory.grow</c> gives
/// -1), long before the kernel has to kill somebody, and stderr says so once.
/// </summary>
/// <remarks>
/// The engine's own limiter refuses without a word, so the memories are made here: a stretch of addresses that is reserved at once and made
/// accessible as it grows (wasmtime/config.h, wasmtime_memory_creator_t).
/// </remarks>
internal static unsafe partial class GuestMemory
{
    private const string Setting = "skiff.dev/max-memory";

    private static readonly Lock _lock = new();

    private static ulong _limit;
    private static ulong _used; // by all memories together: a component may have many
    private static bool _told;

    /// <summary>From now on the memories of engines with this configuration, together, do not grow beyond the limit.</summary>
    /// <param name="config">The engine's configuration.</param>
    /// <param name="limit">In bytes.</param>
    public static void Limit(Config config, ulong limit)
    {
        _limit = limit;
        var creator = new Creator { NewMemory = &NewMemory };
        var handle = (SafeHandle)HandleOf(config);
        SetCreator(handle.DangerousGetHandle(), &creator);
        SetCopyOnWrite(handle.DangerousGetHandle(), 0); // its initial contents can be mapped only into memories that the engine makes
        GC.KeepAlive(config);
    }

    /// <summary>Whether the limit is what the engine failed for.</summary>
    public static bool IsReason(WasmtimeException e) => e.Message.Contains(Setting, StringComparison.Ordinal);

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_NativeHandle")]
    [return: UnsafeAccessorType("Wasmtime.Config+Handle, Wasmtime.Dotnet")]
    private static extern object HandleOf(Config config);

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint NewMemory(void* context, void* type, nuint minimum, nuint maximum, nuint reserved, nuint guard, Memory* result)
    {
        // Code that was compiled for a reserved size leaves out checks up to it. Without one, what may ever be used is enough.
        var capacity = reserved > 0 ? reserved : (nuint)Math.Min(_limit, maximum);
        capacity = WholePages(Math.Max(capacity, minimum));
        if (!Take(minimum))
        {
            Reports.MemoryRefused(minimum, _used, _limit);
            return Error($"the guest's memory begins with {minimum} bytes, and {Setting} allows {_limit}; raise it");
        }

        var start = mmap(null, capacity + guard, ProtNone, MapPrivate | MapAnonymous | MapNoReserve, -1, 0);
        if (start == (void*)-1 || mprotect(start, WholePages(minimum), ProtRead | ProtWrite) != 0)
        {
            return Error($"{capacity + guard} bytes of addresses for the guest's memory cannot be had (errno {Marshal.GetLastSystemError()})");
        }

        var memory = (State*)NativeMemory.Alloc((nuint)sizeof(State));
        *memory = new State { Start = (byte*)start, Size = minimum, Capacity = capacity, Mapped = capacity + guard };
        *result = new Memory { State = memory, Get = &GetMemory, Grow = &GrowMemory, Finalizer = &Release };
        return 0;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte* GetMemory(State* memory, nuint* size, nuint* capacity)
    {
        *size = memory->Size;
        *capacity = memory->Capacity;
        return memory->Start;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint GrowMemory(State* memory, nuint size)
    {
        if (size > memory->Capacity || !Take(size - memory->Size))
        {
            Tell(size - memory->Size);
            return Error($"{Setting} allows no more");
        }

        if (mprotect(memory->Start, WholePages(size), ProtRead | ProtWrite) != 0)
        {
            GiveBack(size - memory->Size);
            return Error($"the kernel has no more memory for the guest (errno {Marshal.GetLastSystemError()})");
        }

        memory->Size = size;
        return 0;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Release(State* memory)
    {
        GiveBack(memory->Size);
        _ = munmap(memory->Start, memory->Mapped);
        NativeMemory.Free(memory);
    }

    private static bool Take(nuint more)
    {
        lock (_lock)
        {
            if (more > _limit - _used)
            {
                return false;
            }

            _used += more;
            return true;
        }
    }

    private static void GiveBack(nuint size)
    {
        lock (_lock)
        {
            _used -= size;
        }
    }

    private static void Tell(nuint more)
    {
        lock (_lock)
        {
            if (_told)
            {
                return;
            }

            _told = true;
            Reports.MemoryRefused(more, _used, _limit);
            _ = Libc.Report($"memory.grow by {more} bytes was refused: the guest has {_used} and {Setting} allows {_limit}; raise it if it needs more", 0);
        }
    }

    private static nuint WholePages(nuint size)
    {
        var page = (nuint)Environment.SystemPageSize;
        return (size + page - 1) / page * page;
    }

    private static nint Error(string message)
    {
        fixed (byte* text = Encoding.UTF8.GetBytes(message + "\0"))
        {
            return NewError(text);
        }
    }

    private const int ProtNone = 0;
    private const int ProtRead = 1;
    private const int ProtWrite = 2;
    private const int MapPrivate = 2;
    private const int MapAnonymous = 0x20;
    private const int MapNoReserve = 0x4000;

    [LibraryImport("libc")]
    private static partial void* mmap(void* address, nuint length, int protection, int flags, int descriptor, nint offset);

    [LibraryImport("libc")]
    private static partial int mprotect(void* address, nuint length, int protection);

    [LibraryImport("libc")]
    private static partial int munmap(void* address, nuint length);

    [LibraryImport("wasmtime", EntryPoint = "wasmtime_error_new")]
    private static partial nint NewError(byte* message);

    [LibraryImport("wasmtime", EntryPoint = "wasmtime_config_host_memory_creator_set")]
    private static partial void SetCreator(nint config, Creator* creator);

    [LibraryImport("wasmtime", EntryPoint = "wasmtime_config_memory_init_cow_set")]
    private static partial void SetCopyOnWrite(nint config, byte enabled);

    /// <summary>One linear memory.</summary>
    private struct State
    {
        public byte* Start;
        public nuint Size;
        public nuint Capacity;
        public nuint Mapped;
    }

    /// <summary>wasmtime_linear_memory_t.</summary>
    private struct Memory
    {
        public State* State;
        public delegate* unmanaged[Cdecl]<State*, nuint*, nuint*, byte*> Get;
        public delegate* unmanaged[Cdecl]<State*, nuint, nint> Grow;
        public delegate* unmanaged[Cdecl]<State*, void> Finalizer;
    }

    /// <summary>wasmtime_memory_creator_t.</summary>
    private struct Creator
    {
        public void* Context;
        public delegate* unmanaged[Cdecl]<void*, void*, nuint, nuint, nuint, nuint, Memory*, nint> NewMemory;
        public void* Finalizer;
    }
}
