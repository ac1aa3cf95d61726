"""Answers as solutions of competition problems write them, by hand, each another one than all others."""

ANSWERS = tuple(r"""
0
7
-7
42
1,234
12{,}345
10,\!080
1,000,000
0.25
-0.75
3.1416
.125
99.9
100
\frac{1}{3}
-\frac{1}{3}
\frac{2}{3}
\frac{7}{12}
-\frac{11}{4}
\frac{13}{204}
\frac{25}{9}
1\frac{1}{6}
3\frac{4}{7}
-2\frac{3}{8}
\frac{\pi}{2}
\frac{\pi}{3}
\frac{5\pi}{6}
\frac{\sqrt{2}}{2}
\frac{\sqrt{3}}{3}
-\frac{\sqrt{3}}{2}
\frac{1+\sqrt{5}}{2}
\frac{1-\sqrt{5}}{2}
\frac{-3+\sqrt{17}}{4}
\frac{3\sqrt{7}}{7}
\frac{2}{\sqrt{3}}
\frac{x+1}{x-1}
\frac{x-1}{x+1}
\frac{a}{b}
\frac{b}{a}
-\frac{a}{b}
\frac{a+b}{c}
\frac{a}{b+c}
\frac{3}{2x}
\frac{3x}{2}
\frac{x^2}{4}
\frac{x}{4^2}
\frac{1}{x^2+1}
\frac{n(n+1)}{2}
\frac{n(n-1)}{2}
\frac{n!}{2}
\frac{2^{10}}{3}
\frac{1}{2^{10}}
\sqrt{2}
\sqrt{3}
2\sqrt{3}
3\sqrt{2}
\sqrt{23}
10\sqrt{10}
\sqrt[3]{2}
\sqrt[3]{4}
\sqrt[4]{2}
3\sqrt[3]{9}
\sqrt{x}
\sqrt{x+1}
\sqrt{x}+1
\sqrt{a^2+b^2}
1+\sqrt{2}
1-\sqrt{2}
\sqrt{2}+\sqrt{3}
\sqrt{2}-\sqrt{3}
4+2\sqrt{3}
\pi
2\pi
\pi^2
2\pi^2
4\pi r^2
\frac{4}{3}\pi r^3
\pi+1
12\pi\sqrt{3}
e
e^2
e^x
e^{2x}
e^{-x}
e^{x^2}
e^{2}x
xe^x
2e^{3x}
e^{i\pi}
\ln 2
\ln 3
2\ln 3
\ln x
\ln(x+1)
\log_2 3
\log_2 5
\log_3 2
\log_{10} 7
\log_{23} 2
\log_2 x
\log_2(x+1)
\log_{a} b
\sin x
\cos x
\sin 2x
\sin^2 x
\cos^2 x
\tan\theta
\sin\theta\cos\theta
2\sin x\cos x
\sin\frac{\pi}{7}
\sin 30^\circ
\cos 20^\circ
\arctan 2
\arcsin\frac{1}{3}
x
y
-x
2x
2x+1
2x-1
-2x+1
x+y
x-y
xy
x^2
x^3
x^{12}
x^{1}2
x^2+1
x^2-1
x^2+x+1
x^2-5x+6
x^3-3x^2+3x-1
(x+1)(x-2)
(x-1)(x+2)
(x+1)^2
(x-1)^2
x(x+1)
2(x+3)^2-5
(x-2)^2+(y+3)^2
6x^2y
6xy^2
3x^2-4xy+y^2
a_1
a_2
a_n
a_{n+1}
a_{12}
a_1a_2
2^n
2^{n+1}
2^{n-1}
2^n-1
2^{10}
2^{100}
10^{-3}
3^{2004}
3\cdot 2^{n}
5\cdot 10^{6}
1.5\times 10^{8}
n!
(n-1)!
(n+1)!
\binom{n}{2}
\binom{n}{3}
\binom{10}{4}
\binom{2n}{n}
2516_8
2516_9
1101_2
11001_{2}
A5_{16}
i
-i
2+3i
2-3i
-1+i\sqrt{3}
\frac{1}{2}+\frac{\sqrt{3}}{2}i
5i
x=3y
y=2x+3
y=2x-3
y=-x+3
x^2+y^2=25
x+2y-7=0
ax+by=c
x\ge 3
x\le 3
x>3
x<3
-2<x<5
-2\le x\le 5
0<x\le 1
x\ne 0
(1,2)
(2,1)
(-1,2)
(1,-2)
(0,0)
\left(\frac{1}{2},3\right)
\left(3,\frac{1}{2}\right)
(1,2,3)
(3,2,1)
(0,1,-1)
(r,\theta)
\left(2,\frac{\pi}{6}\right)
\left(\sqrt{2},\frac{\pi}{4},1\right)
(x+1,y-2)
[0,1]
[0,1)
(0,1]
[-2,5]
[-5,2]
(-\infty,2)
(-\infty,2]
(2,\infty)
[2,\infty)
(-\infty,\infty)
(-\infty,0)\cup(0,\infty)
(-\infty,-1]\cup[1,\infty)
(-1,0)\cup(0,1)
[-1,0)\cup(2,3]
(0,1)\cup(1,2)\cup(2,3)
\infty
-\infty
\{1,2,3\}
\{1,2\}
\{-1,1\}
\{0\}
\{2,4,6,8\}
\left\{\frac{1}{2},2\right\}
\emptyset
\mathbb{R}
\mathbb{Z}
1, 2
2, 1
1, 2, 3
-1, 2
3, 5, 7
1, -2
\frac{1}{2}, 2
\sqrt{2}, -\sqrt{2}
1, 2, 4, 8
0, \pi
1, 250
\begin{pmatrix} 1 \\ 2 \end{pmatrix}
\begin{pmatrix} 2 \\ 1 \end{pmatrix}
\begin{pmatrix} 1 & 2 \end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}
\begin{pmatrix} 0 & -1 \\ 1 & 0 \end{pmatrix}
\begin{pmatrix} 1/2 & 0 \\ 0 & 3 \end{pmatrix}
\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\begin{pmatrix} x & y \\ -y & x \end{pmatrix}
\begin{pmatrix} 1 & 0 & 0 \\ 0 & 1 & 0 \\ 0 & 0 & 1 \end{pmatrix}
\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}
\text{even}
\text{odd}
\text{neither}
\text{Monday}
\text{Tuesday}
\text{Evelyn}
\text{red}
\text{no solution}
\text{yes}
\text{no}
\text{parallelogram}
\text{east}
\text{(A)}
\text{(B)}
\text{(C)}
\text{A, C}
\text{B, C}
\text{June 20}
\text{June 21}
3:30
4:30
3{:}45\text{ p.m.}
3{:}45\text{ a.m.}
2:3
2:3:5
3:2
\pm 3
\pm\sqrt{2}
1\pm\sqrt{2}
2\pm i
|x|
|x-1|
\lfloor x\rfloor
\lceil x\rceil
\lfloor\sqrt{n}\rfloor
0.\overline{3}
0.\overline{12}
0.1\overline{2}
\overline{AB}
\overline{A}B
\vec{v}
\hat{x}
\angle ABC
\triangle ABC
AB
BC
f(x)
f(2)
f^{-1}(x)
f'(x)
f(x+1)
g(f(x))
\sum_{k=1}^{n} k^2
\sum_{k=1}^{n} k
\sum_{k=0}^{n} k^2
\int_0^1 x\,dx
\int_0^1 y\,dy
\gcd(a,b)
\max(a,b)
a\equiv 3\pmod{7}
\phi
\alpha+\beta
\alpha\beta
\frac{\alpha}{\beta}
\cot\theta
\csc x
\sec^2 x
-6\sin 2x
7!
12\text{ dozen}
3\text{ billion}
""".strip().splitlines())  # fmt: skip
