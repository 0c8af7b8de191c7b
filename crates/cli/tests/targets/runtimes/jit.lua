-- What luajit compiles, coroutines, and errors through frames of C.
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print("fib", fib(24))
local sum = 0
for i = 1, 3000000 do sum = (sum + i * 7) % 1000003 end
print("loop", sum)
local function body(n) for i = 1, n do coroutine.yield(i) end return -1 end
local total = 0
for i = 1, 200 do
  local co = coroutine.wrap(body)
  local v = co(i)
  while v ~= -1 do total = total + v; v = co() end
end
print("coroutines", total)
local caught = 0
for i = 1, 2000 do
  local ok = pcall(function() table.sort({3, 1, 2}, function(a, b) if i % 2 == 0 then error("x") end return a < b end) end)
  if not ok then caught = caught + 1 end
end
print("caught", caught)
local s = string.rep("ab", 1000)
print("gsub", (s:gsub("a", function(c) return #c .. "" end)):len())
